"""How sure a score is, and whether two models differ: pictures are drawn, not sentences.

The sentences of a picture are not independent, so an interval from single sentences would be too narrow.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .rules import Rule
from .sheet import Sheet


@dataclass(frozen=True)
class Interval:
    """A value in percent with the ends of its interval of 95 %, which are NaN for a single picture."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.value:.2f} {self.ends(".2f")}'

    def ends(self, form: str) -> str:
        """The ends in words."""
        return '[-]' if np.isnan(self.low) else f'[{self.low:{form}}, {self.high:{form}}]'

    def as_json(self) -> dict[str, float | None]:
        """Plain values; None in place of NaN, which JSON does not have."""
        return {key: None if np.isnan(value) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Difference(Interval):
    """The difference of two models, with the probability of one as large if the models were alike."""

    p_value: float

    def __str__(self) -> str:
        return f'{self.value:+.2f} {self.ends("+.2f")}'


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
    drawn = np.concatenate([weights @ sums for weights in _weights(len(sums), rounds, seed)])
    found = {}
    for name, value, samples in zip((*_SCORES, 'boundary IoU'), _scores(sums.sum(0)), _scores(drawn.T), strict=True):
        found[name] = Interval(float(value), *_ends(samples, len(sums)))
    return found


def differences(
    first: Sheet, second: Sheet, rule: Rule, rows: np.ndarray, rounds: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """oIoU and mIoU of the second model minus those of the first, on the same sentences.

    The interval is a bootstrap over pictures, with the same pictures for both. The p-value is that of a permutation
    test: in each round the two models are swapped on a random half of the pictures.
    """
    ours, theirs = _sums(first, rule, rows), _sums(second, rule, rows)
    drawn = np.concatenate(
        [_scores((weights @ theirs).T) - _scores((weights @ ours).T) for weights in _weights(len(ours), rounds, seed)],
        1,
    )
    rng = np.random.default_rng(seed + 1)
    change = np.concatenate([(rng.random((number, len(ours))) < 0.5) @ (theirs - ours) for number in _blocks(rounds)])
    swapped = _scores((theirs.sum(0) - change).T) - _scores((ours.sum(0) + change).T)
    value = _scores(theirs.sum(0)) - _scores(ours.sum(0))
    found = {}
    for i, name in enumerate(_SCORES):
        # A rounding error must not make a swap of nothing count as smaller.
        as_large = int((np.abs(swapped[i]) >= abs(value[i]) - 1e-9).sum())
        found[name] = Difference(float(value[i]), *_ends(drawn[i], len(ours)), (1 + as_large) / (1 + rounds))
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


def _ends(samples: np.ndarray, pictures: int) -> tuple[float, float]:
    """The interval of 95 %; one picture does not say how much pictures differ."""
    if pictures < 2:
        return float('nan'), float('nan')
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def _weights(pictures: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """How often each picture is drawn in each round, (rounds, pictures), in blocks."""
    rng = np.random.default_rng(seed)
    for number in _blocks(rounds):
        yield rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=number)


def _blocks(rounds: int) -> list[int]:
    """Rounds in blocks of at most a thousand, so that memory does not grow with them."""
    return [min(1000, rounds - start) for start in range(0, rounds, 1000)]


def _scores(sums: np.ndarray) -> np.ndarray:
    """oIoU, mIoU and the mean of a fifth sum if there is one, in percent, of sums whose first axis is theirs."""
    intersection, union, iou, number, *more = sums
    number = np.maximum(number, 1)
    # As `_overall_iou` of evaluation/scores.py: without any pixel it is 1 if every sentence has the IoU 1.
    overall = np.where(union > 0, intersection / np.maximum(union, 1), iou >= number)
    return 100 * np.stack([overall, iou / number, *(value / number for value in more)])
