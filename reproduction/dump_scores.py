"""Scores of a run from the dumps of its tests: attributes alone, and how well it predicts its IoU."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from scipy.stats import spearmanr

from dit_sam.datasets.shapes.polygons import SHAPES
from dit_sam.datasets.shapes.scene_sampling import COLORS, TEXTURES
from dit_sam.datasets.shapes.single_target import SIZE_WORDS, VOCABULARY, WITH

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

    Each of the two has these keys:

    * `sentences`: their number.
    * `mean_difference`: the mean of |predicted - true|. Where nothing is meant, the true IoU of any mask is 0.
    * `rank_correlation`: None if the predicted or the true IoU is constant.
    * `tenths`: for each tenth of the predicted IoU the number of sentences, the mean predicted and the mean true IoU;
      None without a sentence.

    Args:
        dump: The dump of the test pictures.
        generalized: That of the generalized data. A sentence without an answer counts if training has all its words.
    """
    nothing = (line for line in _lines(generalized) if line['no_target'])
    known = (line for line in nothing if set(VOCABULARY).issuperset(line['sentence'].split()))
    return dict(
        object=_fit((line['score'], line['iou']) for line in _lines(dump)),
        nothing=_fit((line['score'], 0.0) for line in known),
    )


def _fit(pairs: Iterable[tuple[float, float]]) -> dict:
    """Predicted and true IoU compared."""
    pairs = list(pairs)
    tenths: list[list[tuple[float, float]]] = [[] for _ in range(10)]
    for pair in pairs:
        tenths[min(9, int(pair[0] * 10))].append(pair)
    predicted, true = zip(*pairs) if pairs else ((), ())
    varied = len(set(predicted)) > 1 and len(set(true)) > 1
    return dict(
        sentences=len(pairs),
        mean_difference=round(mean(abs(first - second) for first, second in pairs), 4) if pairs else None,
        rank_correlation=round(float(spearmanr(predicted, true).statistic), 4) if varied else None,
        tenths=[[len(part), *(round(mean(values), 4) for values in zip(*part))] if part else None for part in tenths],
    )


def _lines(dump: Path) -> list[dict]:
    return [json.loads(line) for line in dump.read_text().splitlines()]
