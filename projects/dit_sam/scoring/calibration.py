"""How well the IoU that a model predicts for its masks fits their IoU."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class Calibration:
    """Predicted and true IoU of some sentences compared.

    Attributes:
        sentences: Their number.
        mean_score: The mean predicted IoU; None without a sentence, as the next two.
        mean_iou: The mean true IoU.
        mean_difference: The mean of |predicted - true|.
        rank_correlation: Spearman's; None if all predicted or all true IoUs are equal.
        tenths: For each tenth of the predicted IoU the number of sentences, the mean predicted and the mean true IoU;
            None without a sentence.
    """

    sentences: int
    mean_score: float | None
    mean_iou: float | None
    mean_difference: float | None
    rank_correlation: float | None
    tenths: tuple[tuple[int, float, float] | None, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def calibrate(scores: np.ndarray, ious: np.ndarray) -> Calibration:
    """Compare predicted and true IoUs.

    Args:
        scores: The predicted IoU of each sentence, (N,). One outside of 0 to 1 counts to the first or last tenth.
        ious: The true IoUs, (N,).

    Raises:
        InputError: One of them is not finite.
    """
    if not (np.isfinite(scores).all() and np.isfinite(ious).all()):
        raise InputError('predicted and true IoUs must be finite: leave out sentences without a score')
    tenth = np.clip((scores * 10).astype(int), 0, 9)
    parts = [(scores[tenth == i], ious[tenth == i]) for i in range(10)]
    return Calibration(
        sentences=len(scores),
        mean_score=_mean(scores),
        mean_iou=_mean(ious),
        mean_difference=_mean(np.abs(scores - ious)),
        rank_correlation=_rank_correlation(scores, ious),
        tenths=tuple((len(x), float(x.mean()), float(y.mean())) if len(x) else None for x, y in parts),
    )


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _rank_correlation(scores: np.ndarray, ious: np.ndarray) -> float | None:
    if not len(scores) or not np.ptp(scores) or not np.ptp(ious):
        return None
    from scipy.stats import spearmanr  # takes half a second

    return float(spearmanr(scores, ious).statistic)
