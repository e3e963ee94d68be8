"""How the projects of the literature score the same masks: one rule for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..evaluation.scores import THRESHOLDS, Areas, scores_of


@dataclass(frozen=True)
class Rule:
    """A way to score.

    Attributes:
        compared: Which masks are compared: `original`, `summed`, `summed_480` or `scaled_480` of `Truth`.
        generalized: Whether N-acc and T-acc are reported and P@X is over the sentences with a target, as in gRefCOCO.
            None means that it depends on whether some sentence of the data has no target.
        inclusive: Whether an IoU of exactly X counts for P@X.
        empty_iou: IoU of an empty prediction where the sentence means nothing.
        by_annotation: Whether "means nothing" is what the annotation says, and not a mask without a pixel.
        as_cris: Whether 1e-6 is added to the union, P@X has thresholds in float32, and no oIoU is reported.
        as_in: Whose code scores so, and the names there.
    """

    compared: str = 'original'
    generalized: bool | None = False
    inclusive: bool = False
    empty_iou: float = 1.0
    by_annotation: bool = True
    as_cris: bool = False
    as_in: str = ''

    def scores(self, areas: Sequence[Areas], with_nothing: bool | None = None) -> dict[str, float]:
        """The scores of sentences by name, in percent; `cIoU` and `gIoU` are called oIoU and mIoU.

        Args:
            areas: Counted pixels of the masks that `compared` names, at least one.
            with_nothing: Whether some sentence of the data has no target, if these are not all of them.
        """
        areas = [self.adapt(area) for area in areas]
        if self.as_cris:
            return _cris_scores(areas)
        generalized = self.generalized
        if generalized is None:
            generalized = any(area.no_target for area in areas) if with_nothing is None else with_nothing
        found = scores_of(areas, generalized, self.inclusive)
        return {dict(cIoU='oIoU', gIoU='mIoU').get(name, name): value for name, value in found.items()}

    def adapt(self, area: Areas) -> Areas:
        """The same pixels under this rule."""
        return replace(
            area, empty_iou=self.empty_iou, no_target=area.no_target if self.by_annotation else not area.truth
        )


RULES = {
    'original': Rule(generalized=None, as_in='this project'),
    'EVF-SAM': Rule('summed', by_annotation=False, as_in='EVF-SAM: gIoU is mIoU, cIoU is oIoU'),
    'mmdet': Rule(by_annotation=False, empty_iou=0.0, as_in="mmdet's RefSegMetric (cIoU, mIoU) and torchmetrics"),
    'CRIS': Rule(by_annotation=False, as_cris=True, as_in='CRIS, ETRIS and DETRIS'),
    'LAVT': Rule('summed_480', by_annotation=False, inclusive=True, empty_iou=0.0, as_in='LAVT, at 480 x 480'),
    'ReLA': Rule('scaled_480', generalized=True, inclusive=True, as_in='ReLA (gRefCOCO), at 480 x 480'),
    'DIT': Rule(as_in='the released DIT, for masks at the size of the picture'),
}


def _cris_scores(areas: Sequence[Areas]) -> dict[str, float]:
    """Mean IoU with 1e-6 in the union, and P@X with thresholds in float32 (`engine/engine.py` of CRIS)."""
    ious = np.array([area.intersection / (area.union + 1e-6) for area in areas])
    # 0.7 and 0.9 in float32 are below 0.7 and 0.9, so an IoU of exactly 0.7 counts for P@0.7.
    precision = {f'P@{x}': 100 * float((ious > float(np.float32(x))).mean()) for x in THRESHOLDS}
    return dict(mIoU=100 * float(ious.mean()), **precision)
