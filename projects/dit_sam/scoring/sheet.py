"""The counted pixels of all sentences: what every score, interval and plot is made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..evaluation.protocols import stretch_array
from ..evaluation.scores import Areas
from ..utils import decode_rle
from .answers import Problems, read_answers
from .rules import RULES, Rule
from .truths import SIDE, Truths, boundary_of


@dataclass
class Sheet:
    """Counted pixels by sentence, in the order of the data.

    Attributes:
        counts: By the form in which masks are compared, `Rule.compared`: intersection, prediction and truth in pixels,
            int64 (N, 3).
        boundary: Intersection and union of the boundaries, int64 (N, 2).
        no_target: Whether the annotation says that the sentence means nothing, (N,).
        images: The number of the picture, (N,).
        sizes: Pixels of the picture, (N,).
        confidence: What the model says about its mask, NaN where it says nothing, (N,).
        problems: What was wrong with the predictions.
        outlined: Whether the data have the polygons of each reference, by its number.
        covered_twice: Pixels that several polygons of an object cover, by the number of the reference.
    """

    counts: dict[str, np.ndarray]
    boundary: np.ndarray
    no_target: np.ndarray
    images: np.ndarray
    sizes: np.ndarray
    confidence: np.ndarray
    problems: Problems = field(default_factory=Problems)
    outlined: dict[int, bool] = field(default_factory=dict)
    covered_twice: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.no_target)

    def areas(self, rule: Rule, rows: np.ndarray | None = None) -> list[Areas]:
        """The counted pixels of some rows, or of all, for a rule."""
        chosen = slice(None) if rows is None else rows
        counts, none = self.counts[rule.compared][chosen].tolist(), self.no_target[chosen].tolist()
        return [
            rule.adapt(Areas(shared, prediction, truth, no_target))
            for (shared, prediction, truth), no_target in zip(counts, none)
        ]

    def ious(self, rule: Rule) -> np.ndarray:
        """The IoU of every sentence under a rule, (N,)."""
        return np.array([area.iou for area in self.areas(rule)])

    def boundary_ious(self) -> np.ndarray:
        """The IoU of the boundaries, (N,); 1 where there are none and the sentence means nothing, otherwise 0."""
        intersection, union = self.boundary.T
        return np.where(union > 0, intersection / np.maximum(union, 1), self.no_target.astype(float))


def score_answers(path: str, truths: Truths, rules: Sequence[str] = tuple(RULES), resize: str = 'none') -> Sheet:
    """Count the pixels of the predictions in a file or folder, one at a time.

    Args:
        path: As in `read_answers`.
        truths: As in `read_answers`.
        rules: Names of `RULES`.
        resize: As in `read_answers`.

    Raises:
        FileNotFoundError: As `read_answers`.
        InputError: As `read_answers`, or the data are damaged.
    """
    number, forms = len(truths), sorted({RULES[name].compared for name in rules} | {'original'})
    sheet = Sheet(
        counts={form: np.zeros((number, 3), np.int64) for form in forms},
        boundary=np.zeros((number, 2), np.int64),
        no_target=np.zeros(number, bool),
        images=truths.images,
        sizes=np.zeros(number, np.int64),
        confidence=np.full(number, np.nan),
    )
    for answer in read_answers(path, truths, sheet.problems, resize):
        row, truth, mask = answer.row, truths.of_row(answer.row), decode_rle(answer.rle)
        if truth.counting is not None:
            mask = mask & truth.counting
        square = stretch_array(mask, SIDE) if any(map(_is_stretched, forms)) else mask
        for form in forms:
            sheet.counts[form][row] = _count(square if _is_stretched(form) else mask, getattr(truth, form))
        edge = boundary_of(mask)
        shared = np.count_nonzero(edge & truth.boundary)
        sheet.boundary[row] = shared, np.count_nonzero(edge) + np.count_nonzero(truth.boundary) - shared
        sheet.no_target[row], sheet.sizes[row] = truth.no_target, mask.size
        reference = truths.reference(row)
        if len(forms) > 1 and reference not in sheet.outlined:
            sheet.outlined[reference] = truth.outlines is not None
            sheet.covered_twice[reference] = truth.covered_twice
        if answer.score is not None:
            sheet.confidence[row] = answer.score
    return sheet


def _is_stretched(form: str) -> bool:
    return form.endswith(f'_{SIDE}')


def _count(prediction: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    return tuple(int(np.count_nonzero(mask)) for mask in (prediction & truth, prediction, truth))  # type: ignore
