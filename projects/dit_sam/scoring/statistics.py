"""How sure a score is, and whether two models differ: pictures are drawn, not sentences.

The sentences of a picture are not independent, so an interval from single sentences would be too narrow.
"""

from dataclasses import dataclass

import numpy as np

from .rules import Rule
from .sheet import Sheet


@dataclass(frozen=True)
class Interval:
    """A value in percent with the ends of its interval of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]'


@dataclass(frozen=True)
class Difference(Interval):
    """The difference of two models, with the probability of one as large if the models were alike."""

    p_value: float

    def __str__(self) -> str:
        return f'{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]'


# oIoU and mIoU.
_SCORES = ('oIoU', 'mIoU')


def intervals(sheet: Sheet, rule: Rule, rows: np.ndarray, rounds: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """oIoU, mIoU and the mean boundary IoU of some rows, with bootstrap intervals over pictures.

    Args:
        sheet: The counted pixels.
        rule: How they are scored.
        rows: The sentences that count, at least one.
        rounds: How often as many pictures as there are are drawn with replacement.
        seed: Of the draw.
    """
    sums = _sums(sheet, rule, rows)
    boundary = _by_image(sheet, rows, sheet.boundary_ious()[rows])
    sums = np.column_stack([sums, boundary])
    drawn = _weights(len(sums), rounds, seed) @ sums
    found = {}
    for name, value, samples in zip((*_SCORES, 'boundary IoU'), _scores(sums.sum(0)), _scores(drawn.T), strict=True):
        low, high = np.quantile(samples, (0.025, 0.975))
        found[name] = Interval(float(value), float(low), float(high))
    return found


def differences(
    first: Sheet, second: Sheet, rule: Rule, rows: np.ndarray, rounds: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """oIoU and mIoU of the second model minus those of the first, on the same sentences.

    The interval is a bootstrap over pictures, with the same pictures for both. The p-value is that of a permutation
    test: in each round the two models are swapped on a random half of the pictures.
    """
    ours, theirs = _sums(first, rule, rows), _sums(second, rule, rows)
    weights = _weights(len(ours), rounds, seed)
    drawn = _scores((weights @ theirs).T)[:2] - _scores((weights @ ours).T)[:2]
    swap = np.random.default_rng(seed + 1).random((rounds, len(ours))) < 0.5
    change = swap @ (theirs - ours)
    swapped = _scores((theirs.sum(0) - change).T)[:2] - _scores((ours.sum(0) + change).T)[:2]
    value = _scores(theirs.sum(0))[:2] - _scores(ours.sum(0))[:2]
    found = {}
    for i, name in enumerate(_SCORES):
        low, high = np.quantile(drawn[i], (0.025, 0.975))
        # A rounding error must not make a swap of nothing count as smaller.
        as_large = int((np.abs(swapped[i]) >= abs(value[i]) - 1e-9).sum())
        found[name] = Difference(float(value[i]), float(low), float(high), (1 + as_large) / (1 + rounds))
    return found


def _sums(sheet: Sheet, rule: Rule, rows: np.ndarray) -> np.ndarray:
    """For each picture the sums of intersection, union, IoU and 1 over its sentences, (pictures, 4)."""
    areas = sheet.areas(rule, rows)
    columns = [[area.intersection, area.union, area.iou, 1] for area in areas]
    return _by_image(sheet, rows, np.array(columns, dtype=np.float64))


def _by_image(sheet: Sheet, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    _, picture = np.unique(sheet.images[rows], return_inverse=True)
    sums = np.zeros((picture.max() + 1, *values.shape[1:]))
    np.add.at(sums, picture, values)
    return sums


def _weights(pictures: int, rounds: int, seed: int) -> np.ndarray:
    """How often each picture is drawn in each round, (rounds, pictures)."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=rounds)


def _scores(sums: np.ndarray) -> np.ndarray:
    """oIoU, mIoU and the mean of a fifth sum if there is one, in percent, of sums whose first axis is theirs."""
    intersection, union, iou, number, *more = sums
    number = np.maximum(number, 1)
    overall = np.where(union > 0, intersection / np.maximum(union, 1), iou / number)
    return 100 * np.stack([overall, iou / number, *(value / number for value in more)])
