"""Scores of referring image segmentation from counted pixels.

Python integers and `fsum` are exact, so neither the order nor the split over ranks changes a score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from urllib.parse import quote

from prettytable import PrettyTable

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
NAMES = ('oIoU', 'mIoU', 'gIoU', 'cIoU', 'N-acc', 'T-acc', *(f'P@{threshold}' for threshold in THRESHOLDS))
REFERENCE_NAMES = ('rIoU', 'mRR')


@dataclass(frozen=True)
class Areas:
    """The counted pixels of one sentence, whether it means nothing, and the IoU of an empty prediction in that case."""

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
        """Intersection over union; `empty_iou` if nothing is predicted and nothing is meant."""
        return self.intersection / self.union if self.union else self.empty_iou * self.no_target


def scores_of(areas: Sequence[Areas], generalized: bool = False, inclusive: bool = False) -> dict[str, float]:
    """The scores of sentences by name, in percent.

    A score without sentences, such as N-acc if every sentence has a target, is left out.

    Args:
        areas: One for each sentence, at least one.
        generalized: Whether to report gIoU, cIoU, N-acc, T-acc and P@X over the sentences with a target, as in gRefCOCO
            (ReLA, `gres_model/evaluation/refer_evaluation.py`), or oIoU, mIoU and P@X over all sentences.
        inclusive: Whether an IoU of exactly X counts for P@X. In gRefCOCO it does.
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


def reference_scores(references: Iterable[Sequence[Areas]]) -> dict[str, float]:
    """The scores over the sentences of each reference, in percent, as in R-RefCOCO (RefSegformer, `validation.py`).

    `rIoU` is the mean over the references of sum of the intersections / sum of the unions; `mRR` is the mean over those
    with sentences without a target of the share of them for which nothing is predicted.
    """
    groups = list(references)
    scores = dict(rIoU=fsum(map(_overall_iou, groups)) / len(groups))
    untargeted = [found for areas in groups if (found := [area for area in areas if area.no_target])]
    if untargeted:
        shares = (sum(not area.prediction for area in areas) / len(areas) for areas in untargeted)
        scores['mRR'] = fsum(shares) / len(untargeted) * 100
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
    """The name of a group's score, such as `mIoU/place`.

    Slashes, percent signs and unprintable characters are escaped as in URLs (`left/right` as `left%2Fright`), so
    different groups have different names, even where slashes are replaced, as in names of checkpoints.
    """
    return f'{score}/' + ''.join(
        one if one.isprintable() and one not in '%/\\' else quote(one, safe='', errors='surrogatepass') for one in group
    )


def score_table(
    title: str, total: tuple[int, Mapping[str, float]], groups: Mapping[str, tuple[int, Mapping[str, float]]]
) -> str:
    """A table of scores to print: the total, called "all", and the groups below a line.

    Each row has the number of sentences and their scores by name; `title` is that of the first column.
    """
    names = list(total[1])
    table = PrettyTable([title, 'Number', *names])
    for index, (row, (number, scores)) in enumerate([('all', total), *groups.items()]):
        cells = (f'{scores[name]:.2f}' if name in scores else '-' for name in names)
        table.add_row([row, number, *cells], divider=index == 0)
    return table.get_string()
