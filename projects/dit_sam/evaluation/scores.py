"""Scores of referring image segmentation from counted pixels.

Python integers and `fsum` are exact, so that neither the order nor the split over ranks changes a score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from urllib.parse import quote

from prettytable import PrettyTable

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
NAMES = ('oIoU', 'mIoU', 'gIoU', 'cIoU', 'N-acc', 'T-acc', *(f'P@{threshold}' for threshold in THRESHOLDS))


@dataclass(frozen=True)
class Areas:
    """What was counted for one sentence, in pixels; whether it means nothing, and the IoU of finding nothing then."""

    intersection: int
    prediction: int
    truth: int
    no_target: bool
    empty_iou: float = 1.0

    @property
    def union(self) -> int:
        return self.prediction + self.truth - self.intersection

    @property
    def iou(self) -> float:
        """Intersection over union; of nothing predicted where nothing is meant it is ``empty_iou``."""
        return self.intersection / self.union if self.union else self.empty_iou * self.no_target


def scores_of(areas: Sequence[Areas], generalized: bool = False, inclusive: bool = False) -> dict[str, float]:
    """Scores of some sentences, in percent.

    Args:
        areas: One for each sentence, at least one.
        generalized: Whether to report gIoU, cIoU, N-acc, T-acc and the P@X of gRefCOCO (ReLA,
            ``gres_model/evaluation/refer_evaluation.py``), whose P@X is over the sentences with a target. Otherwise
            oIoU, mIoU and P@X over all sentences.
        inclusive: Whether an IoU of exactly X counts for P@X. In gRefCOCO it does.

    Returns:
        By name. A score that has no sentence to speak of, such as N-acc where every sentence has a target, is left out.
    """
    mean, overall = fsum(area.iou for area in areas) / len(areas) * 100, _overall_iou(areas)
    if not generalized:
        return dict(oIoU=overall, mIoU=mean, **_precision(areas, inclusive))
    targeted = [area for area in areas if not area.no_target]
    untargeted = [area for area in areas if area.no_target]
    scores = dict(gIoU=mean, cIoU=overall)
    if untargeted:
        # TP / (TP + FN), where "positive" is "no target".
        scores['N-acc'] = sum(not area.prediction for area in untargeted) / len(untargeted) * 100
    if targeted:
        # TN / (TN + FP)
        scores['T-acc'] = sum(bool(area.prediction) for area in targeted) / len(targeted) * 100
        scores.update(_precision(targeted, inclusive=True))
    return scores


def _overall_iou(areas: Sequence[Areas]) -> float:
    intersection, union = sum(area.intersection for area in areas), sum(area.union for area in areas)
    return intersection / union * 100 if union else 100.0 * min(area.iou for area in areas)


def _precision(areas: Sequence[Areas], inclusive: bool) -> dict[str, float]:
    ious = [area.iou for area in areas]
    return {
        f'P@{threshold}': sum(iou > threshold or (inclusive and iou == threshold) for iou in ious) / len(ious) * 100
        for threshold in THRESHOLDS
    }


def group_score(score: str, group: str) -> str:
    """The name of a score of a group, ``mIoU/place``.

    Slashes, percent signs and what does not print are written as in URLs (``left/right`` as ``left%2Fright``), so that
    names differ as the groups do, also where a slash becomes another character, as in names of checkpoints.
    """
    return f'{score}/' + ''.join(
        one if one.isprintable() and one not in '%/\\' else quote(one, safe='', errors='surrogatepass') for one in group
    )


def score_table(
    title: str, total: tuple[int, Mapping[str, float]], groups: Mapping[str, tuple[int, Mapping[str, float]]]
) -> str:
    """A table of scores for reading: the total under the name of "all", and below a line the groups.

    Args:
        title: Head of the first column.
        total: The number of all sentences and every score of them.
        groups: Likewise for each group. A group may be called "all" too.
    """
    names = list(total[1])
    table = PrettyTable([title, 'Number', *names])
    for place, (row, (number, scores)) in enumerate([('all', total), *groups.items()]):
        cells = (f'{scores[name]:.2f}' if name in scores else '-' for name in names)
        table.add_row([row, number, *cells], divider=place == 0)
    return table.get_string()
