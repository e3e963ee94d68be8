"""Scores of a run from the dumps of its tests: attributes alone, and how well it predicts its IoU."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

import numpy as np

from dit_sam.datasets.shapes.polygons import SHAPES
from dit_sam.datasets.shapes.scene_sampling import COLORS, TEXTURES
from dit_sam.datasets.shapes.single_target import SIZE_WORDS, VOCABULARY, WITH
from dit_sam.scoring import calibrate

# The words of each kind in the sentences of kind 'attribute'.
WORDS = dict(
    color=frozenset(COLORS),
    size=frozenset(word for words in SIZE_WORDS.values() for word in words),
    texture=frozenset([*TEXTURES, *WITH.values()]),
    shape=frozenset(SHAPES),
)


def attribute_scores(dump: Path) -> dict[str, float]:
    """The mIoU in percent for each kind of attribute, such as 'mIoU/color' of "the red thing".

    Args:
        dump: The file of `ReferringIoU(dump=FILE)`. Only sentences of kind 'attribute' with words of one kind count.
    """
    ious = defaultdict(list)
    for line in _lines(dump):
        named = [kind for kind, words in WORDS.items() if words.intersection(line['sentence'].split())]
        if line['kind'] == 'attribute' and len(named) == 1:
            ious[named[0]].append(line['iou'])
    return {f'mIoU/{kind}': 100 * mean(ious[kind]) for kind in WORDS if ious[kind]}


def calibration(dump: Path, generalized: Path) -> dict[str, dict]:
    """How well the predicted IoU fits the IoU: of sentences that mean an object, and of those that mean nothing.

    Each of the two has the values of a `Calibration`. Where nothing is meant, the true IoU of any mask is 0.

    Args:
        dump: The dump of the test pictures.
        generalized: That of the generalized data. A sentence without an answer counts if training has all its words.
    """
    nothing = (line for line in _lines(generalized) if line['no_target'])
    known = (line for line in nothing if set(VOCABULARY).issuperset(line['sentence'].split()))
    return {
        'object': _fit([(line['score'], line['iou']) for line in _lines(dump)]),
        'nothing': _fit([(line['score'], 0.0) for line in known]),
    }


def _fit(pairs: list[tuple[float, float]]) -> dict:
    scores, ious = np.array(pairs, dtype=float).reshape(-1, 2).T
    return calibrate(scores, ious).as_json()


def _lines(dump: Path) -> list[dict]:
    return [json.loads(line) for line in dump.read_text().splitlines()]
