"""Score the masks of any model by the protocols of the literature, with intervals; `dit-sam score`.

`Truths` are the sentences of a data set with their masks, `score_answers` counts the pixels of a file of predictions
into a `Sheet`, and `make_report` makes scores, intervals and groups of it. `RULES` are the protocols.
"""

from .answers import PROBLEMS, Answer, Problems, read_answers
from .calibration import Calibration, calibrate
from .data import instances_of, open_data
from .groups import groupings
from .page import write_page
from .report import Group, Report, make_report, summary
from .rules import RULES, Rule
from .sheet import Sheet, score_answers
from .statistics import Difference, Interval, differences, intervals
from .truths import Truth, Truths, boundary_of
from .worst import draw_worst

__all__ = [
    'PROBLEMS',
    'RULES',
    'Answer',
    'Calibration',
    'Difference',
    'Group',
    'Interval',
    'Problems',
    'Report',
    'Rule',
    'Sheet',
    'Truth',
    'Truths',
    'boundary_of',
    'calibrate',
    'differences',
    'draw_worst',
    'groupings',
    'instances_of',
    'intervals',
    'make_report',
    'open_data',
    'read_answers',
    'score_answers',
    'summary',
    'write_page',
]
