"""The results of scoring as tables and as plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prettytable import PrettyTable

from ..errors import printable
from .calibration import Calibration, calibrate
from .groups import Grouping
from .rules import RULES
from .sheet import Sheet
from .statistics import Difference, Interval, differences, intervals

# Columns of the table of rules.
COLUMNS = ('oIoU', 'mIoU', 'N-acc', 'T-acc', 'P@0.5', 'P@0.6', 'P@0.7', 'P@0.8', 'P@0.9')
# Columns of the tables of groups.
GROUP_COLUMNS = ('oIoU', 'mIoU', 'boundary IoU', 'P@0.5', 'P@0.7', 'P@0.9')


@dataclass
class Report:
    """All results of a file of predictions.

    Attributes:
        number: Sentences.
        pictures: Pictures.
        rules: Scores in percent by rule.
        total: Intervals under the rule `original`.
        groups: By grouping and group: the number of sentences, the scores under `original`, and intervals.
        differences: By grouping and group, `all` for all sentences: a second model's scores minus these.
        problems: What was wrong with the predictions, a line for each kind.
        notes: What a reader should know.
        ious: The IoU of every sentence under `original`.
        calibration: How well the model's scores predict the IoU, by what the sentences mean, `an object` or `nothing`;
            empty for a model that says nothing about its masks.
        second_rules: Scores of a second model by rule.
        second_problems: What was wrong with its predictions.
        title: What was scored on what, in one line.
        second_title: The second model's predictions, in one line.
    """

    number: int
    pictures: int
    rules: dict[str, dict[str, float]]
    total: dict[str, Interval]
    groups: dict[str, dict[str, 'Group']]
    differences: dict[str, dict[str, dict[str, Difference]]]
    problems: list[str]
    notes: list[str]
    ious: np.ndarray
    calibration: dict[str, Calibration]
    second_rules: dict[str, dict[str, float]] = field(default_factory=dict)
    second_problems: list[str] = field(default_factory=list)
    title: str = ''
    second_title: str = ''

    @property
    def all_problems(self) -> list[str]:
        """The problems of both models."""
        return [*self.problems, *(f'second model: {line}' for line in self.second_problems)]

    @property
    def columns(self) -> list[str]:
        """The scores of the table of rules. Without a sentence that means nothing, T-acc says nothing either."""
        with_nothing = any('N-acc' in scores for scores in self.rules.values())
        return [name for name in COLUMNS if with_nothing or name not in ('N-acc', 'T-acc')]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(
            title=self.title,
            sentences=self.number,
            pictures=self.pictures,
            protocols=self.rules,
            intervals={name: one.as_json() for name, one in self.total.items()},
            groups={
                title: {name: dict(number=one.number, **one.scores) for name, one in groups.items()}
                for title, groups in self.groups.items()
            },
            group_intervals={
                title: {
                    name: {key: value.as_json() for key, value in one.intervals.items()} for name, one in groups.items()
                }
                for title, groups in self.groups.items()
            },
            differences={
                title: {name: {key: value.as_json() for key, value in found.items()} for name, found in groups.items()}
                for title, groups in self.differences.items()
            },
            problems=self.problems,
            second=dict(title=self.second_title, protocols=self.second_rules, problems=self.second_problems),
            notes=self.notes,
            calibration={meant: one.as_json() for meant, one in self.calibration.items()},
        )


@dataclass
class Group:
    """The sentences of a group: their number, scores and intervals."""

    number: int
    scores: dict[str, float]
    intervals: dict[str, Interval] = field(default_factory=dict)


def make_report(
    sheet: Sheet,
    groupings: Mapping[str, Grouping],
    other: Sheet | None = None,
    rounds: int = 1000,
    seed: int = 0,
    title: str = '',
    second_title: str = '',
) -> Report:
    """Score all sentences by every rule, and groups of them by the rule `original`, with intervals.

    Args:
        sheet: The counted pixels.
        groupings: From `groupings` of groups.py.
        other: The counted pixels of a second model on the same sentences.
        rounds: Of the bootstrap and of the permutation test.
        seed: Of both.
        title: What is scored on what.
        second_title: What the second model is called.
    """
    original, everything = RULES['original'], np.arange(len(sheet))
    calibration = _calibration(sheet)
    members = {title: _members(sheet, grouping) for title, grouping in groupings.items()}
    # A single group is the total again.
    members = {title: groups for title, groups in members.items() if len(groups) > 1}
    boundary = sheet.boundary_ious()
    compared: dict[str, dict[str, dict[str, Difference]]] = {}
    if other is not None:
        compared['all'] = {'all': differences(sheet, other, original, everything, rounds, seed)}
        compared |= {
            title: {name: differences(sheet, other, original, rows, rounds, seed) for name, rows in groups.items()}
            for title, groups in members.items()
        }

    def group(rows: np.ndarray) -> Group:
        scores = original.scores(sheet.areas(original, rows), bool(sheet.no_target.any()))
        scores['boundary IoU'] = 100 * float(boundary[rows].mean())
        return Group(len(rows), scores, intervals(sheet, original, rows, rounds, seed))

    return Report(
        number=len(sheet),
        pictures=len(np.unique(sheet.images)),
        rules={name: rule.scores(sheet.areas(rule)) for name, rule in RULES.items()},
        total=intervals(sheet, original, everything, rounds, seed),
        groups={title: {name: group(rows) for name, rows in groups.items()} for title, groups in members.items()},
        differences=compared,
        problems=sheet.problems.lines(),
        notes=[*_notes(sheet), *(_calibration_line(meant, one) for meant, one in calibration.items())],
        ious=sheet.ious(original),
        calibration=calibration,
        second_rules={} if other is None else {name: rule.scores(other.areas(rule)) for name, rule in RULES.items()},
        second_problems=[] if other is None else other.problems.lines(),
        title=title,
        second_title=second_title,
    )


def _notes(sheet: Sheet) -> list[str]:
    """How the truth of LAVT, EVF-SAM and ReLA could be drawn."""
    touched = [pixels for pixels in sheet.covered_twice.values() if pixels]
    without = sum(not known for known in sheet.outlined.values())
    notes = []
    if touched:
        notes.append(
            f'LAVT and EVF-SAM: of {len(sheet.outlined):,} references {len(touched):,} have pixels that several '
            f'polygons of an object cover, {sum(touched):,} in all, which their code takes for background'
        )
    if without:
        notes.append(
            f'LAVT, EVF-SAM and ReLA: {without:,} of {len(sheet.outlined):,} references come without polygons, so '
            'their masks are taken as they are; score with COCO instances and --refs to draw them as these projects do'
        )
    return notes


def _calibration(sheet: Sheet) -> dict[str, Calibration]:
    """How well the model's scores predict the IoU, by what the sentences mean."""
    ious = sheet.ious(RULES['original'])
    known = {'an object': ~sheet.no_target, 'nothing': sheet.no_target}
    known = {meant: rows & np.isfinite(sheet.confidence) for meant, rows in known.items()}
    return {meant: calibrate(sheet.confidence[rows], ious[rows]) for meant, rows in known.items() if rows.any()}


def _calibration_line(meant: str, found: Calibration) -> str:
    order = '' if found.rank_correlation is None else f', rank correlation {found.rank_correlation:.2f}'
    return (
        f"the model's scores of {found.sentences:,} sentences that mean {meant}: mean {found.mean_score:.3f} at a mean "
        f'IoU of {found.mean_iou:.3f}, mean absolute difference {found.mean_difference:.3f}{order}'
    )


def _members(sheet: Sheet, grouping: Grouping) -> dict[str, np.ndarray]:
    """The rows of each group, in the order of the names."""
    rows: dict[str, list[int]] = {}
    for row in range(len(sheet)):
        for name in grouping(row):
            rows.setdefault(name, []).append(row)
    return {name: np.array(rows[name]) for name in sorted(rows, key=_natural)}


def _natural(name: str) -> tuple[int, str]:
    """A sort key: names without a leading number first, then the others by that number."""
    number = name.split(maxsplit=1)[0] if name.strip() else ''
    return (int(number) if number.isdecimal() else -1), name


Row = list[str]


def rule_rows(report: Report, rules: Mapping[str, Mapping[str, float]]) -> tuple[Row, list[Row]]:
    """Header and rows of the scores by rule."""
    names = report.columns
    rows = [[rule, *_cells(scores, names, '.2f'), RULES[rule].as_in] for rule, scores in rules.items()]
    return ['Protocol', *names, 'As in'], rows


def group_rows(report: Report, title: str) -> tuple[Row, list[Row]]:
    """Header and rows of the groups of one kind, with intervals of mIoU."""
    rows = [
        [name, f'{group.number:,}', group.intervals['mIoU'].ends('.1f'), *_cells(group.scores, GROUP_COLUMNS, '.1f')]
        for name, group in report.groups[title].items()
    ]
    return [title, 'Number', 'mIoU, 95 %', *GROUP_COLUMNS], rows


def difference_rows(report: Report) -> tuple[Row, list[Row]]:
    """Header and rows of the second model minus the first."""
    rows = [
        [
            name if title == 'all' else f'{title}: {name}',
            *(part for key in ('oIoU', 'mIoU') for part in (str(found[key]), f'{found[key].p_value:.3f}')),
        ]
        for title, groups in report.differences.items()
        for name, found in groups.items()
    ]
    return ['Second minus first', 'oIoU, 95 %', 'p of oIoU', 'mIoU, 95 %', 'p of mIoU'], rows


def _cells(scores: Mapping[str, float], names: Iterable[str], form: str) -> Row:
    return [f'{scores[name]:{form}}' if name in scores else '-' for name in names]


def summary(report: Report) -> str:
    """All tables, as the command line prints them."""
    second = [f'second model, {report.second_title}', _table(*rule_rows(report, report.second_rules))]
    parts = [
        f'{report.number:,} sentences about {report.pictures:,} pictures',
        _table(*rule_rows(report, report.rules)),
        'original, with 95 % intervals: ' + ', '.join(f'{name} {interval}' for name, interval in report.total.items()),
        *report.notes,
        *([*second, _table(*difference_rows(report))] if report.differences else []),
        *(_table(*group_rows(report, title)) for title in report.groups),
    ]
    return '\n\n'.join(parts)


def _table(header: Row, rows: list[Row]) -> str:
    table = PrettyTable(header)
    table.align[header[0]] = 'l'
    if header[-1] == 'As in':
        table.align['As in'] = 'l'
    table.add_rows([list(map(printable, row)) for row in rows])
    return table.get_string()
