"""SAM's head for sentences that mean one object, several, or none."""

from typing import Any

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor

from ...compat import import_sam_modeling
from .sam_head import SAMHead

# A logit whose probability is zero in every floating-point format.
EMPTY = -1e4


@MODELS.register_module()
class GeneralizedSAMHead(SAMHead):
    """`SAMHead` with a no-target decision (gRefCOCO; the task is ReLA's, arXiv 2306.00968).

    SAM's IoU token attends to the image and the sentence in every block of the decoder. A small MLP turns it into one
    logit: does the sentence have no target in the image? Where its probability is above `no_target_threshold`, the
    predicted mask is empty. Its target is `no_target` of a data sample or, without that, whether the ground truth is
    empty. Several objects share one mask.

    Args:
        no_target_weight: Weight of the binary cross-entropy of the decision.
        no_target_threshold: Probability above which the mask is empty.
        **kwargs: As in `SAMHead`.
    """

    def __init__(self, no_target_weight: float = 0.5, no_target_threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.no_target_weight, self.no_target_threshold = no_target_weight, no_target_threshold
        self.no_target_head = import_sam_modeling().mask_decoder.MLP(self.in_channels, self.in_channels, 1, 3)

    @property
    def extra_prefixes(self) -> tuple[str, ...]:
        return (*super().extra_prefixes, 'no_target_head.')

    def loss(
        self, inputs: tuple[Tensor, ...], batch_data_samples: SampleList, train_cfg: dict | None = None, **prompts: Any
    ) -> dict[str, Tensor]:
        """Losses of the masks, `loss_no_target`, and `no_target_accuracy`, the right decisions in percent."""
        seg_logits, tokens = self.decode(inputs, **prompts)
        losses = self.losses_of(seg_logits, tokens, batch_data_samples)
        logits = self.no_target_head(tokens[:, 0]).float().squeeze(1)
        empty = torch.stack([_means_nothing(sample) for sample in batch_data_samples])
        losses['loss_no_target'] = self.no_target_weight * F.binary_cross_entropy_with_logits(logits, empty.float())
        losses['no_target_accuracy'] = 100 * ((logits.sigmoid() > self.no_target_threshold) == empty).float().mean()
        return losses

    def predict(
        self, inputs: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict | None = None, **prompts: Any
    ) -> Tensor:
        """Mask logits at the size of the padded input, (B, 1, H, W); −10,000 everywhere if there is no target."""
        return self.predict_with_iou(inputs, batch_img_metas, test_cfg, **prompts)[0]

    def finish_masks(self, seg_logits: Tensor, tokens: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """As in `SAMHead`; −10,000 everywhere if there is no target."""
        nothing = self.no_target_head(tokens[:, 0]).float().sigmoid() > self.no_target_threshold  # (B, 1)
        return self.predict_by_feat(seg_logits, batch_img_metas).masked_fill(nothing[..., None, None], EMPTY)


def _means_nothing(sample: SegDataSample) -> Tensor:
    truth, no_target = sample.gt_sem_seg.data, sample.get('no_target')
    return ~truth.eq(1).any() if no_target is None else truth.new_full((), no_target, dtype=torch.bool)
