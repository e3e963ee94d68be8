"""EVF-SAM's decode head: SAM's mask decoder with one prompt token from the vision-language encoder."""

from typing import Any

import torch
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor, nn

from ...errors import InputError
from ...structures import SpatialPrompts, TextFeatures
from ..layers import resize
from .sam_head import SAMHead


@MODELS.register_module()
class EVFSAMHead(SAMHead):
    """SAM's mask decoder prompted by one token: the pooled feature of the text, projected (EVF-SAM, arXiv 2406.20076).

    The losses are those of the masks at their own size, as in EVF-SAM: logits go to the size of the input, the padding
    is cut off, and what is left goes to the size of the mask. For that the data preprocessor needs `pad_masks=False`.
    Masks that were padded with the image are compared with the padding.

    Args:
        text_dims: Width of the text features, D_t.
        threshold: Probability above which a pixel belongs to the mask.
        multimask: Whether testing takes the one of SAM's masks 1 to 3 that has the highest predicted IoU. EVF-SAM
            trains mask 0, the default.
        align_corners: As in `SAMHead`.
        loss_decode: Losses; EVF-SAM adds binary cross-entropy and Dice.
        **kwargs: As in `SAMHead`.

    Raises:
        InputError: `multimask` and `predict_iou` are both set; otherwise as in `SAMHead`.
    """

    pooled_prompt = True
    loss_at_mask_size = True

    def __init__(
        self,
        text_dims: int = 1024,
        threshold: float = 0.5,
        align_corners: bool = False,
        multimask: bool = False,
        loss_decode: dict | list[dict] = [
            dict(type='BinaryCrossEntropyLoss', _scope_='mmseg'),
            dict(type='BinaryDiceLoss', eps=1e-3, squared=False, _scope_='mmseg'),
        ],
        **kwargs: Any,
    ) -> None:
        super().__init__(
            text_dims=text_dims, threshold=threshold, align_corners=align_corners, loss_decode=loss_decode, **kwargs
        )
        if multimask and self.predicts_iou:
            raise InputError(
                'decode_head.predict_iou=True trains the predicted IoU of mask 0, and multimask=True takes one of the '
                'others: set one of them'
            )
        self.multimask = multimask
        self.text_proj = nn.Sequential(
            nn.Linear(text_dims, text_dims), nn.ReLU(), nn.Linear(text_dims, self.in_channels)
        )

    def text_prompt(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """The prompt token, (B, 1, C), and True, (B, 1).

        Raises:
            InputError: The text encoder gives no pooled feature.
        """
        if text.pooled is None:
            raise InputError(
                'EVFSAMHead is prompted by one feature of the whole sentence, which this text encoder does not give: '
                'use BEiT3TextEncoder, or SAMHead, which uses all tokens'
            )
        prompt = self.text_proj(text.pooled)[:, None]
        return prompt, torch.ones(prompt.shape[:2], dtype=torch.bool, device=prompt.device)

    def predict(
        self, inputs: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict | None = None, **prompts: Any
    ) -> Tensor:
        """Mask logits at the size of the padded input, (B, 1, H, W); see `multimask`."""
        if not self.multimask:
            return super().predict(inputs, batch_img_metas, test_cfg, **prompts)
        return self.predict_with_iou(inputs, batch_img_metas, test_cfg, **prompts)[0]

    def predict_with_iou(
        self, inputs: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict | None = None, **prompts: Any
    ) -> tuple[Tensor, Tensor]:
        """As in `SAMHead`; see `multimask`."""
        if not self.multimask:
            return super().predict_with_iou(inputs, batch_img_metas, test_cfg, **prompts)
        logits, iou = self.best_mask(inputs, **prompts)
        return self.predict_by_feat(logits, batch_img_metas), iou

    def best_mask(
        self, inputs: tuple[Tensor, ...], text: TextFeatures | None = None, prompts: SpatialPrompts | None = None
    ) -> tuple[Tensor, Tensor]:
        """Of SAM's masks 1 to 3 the one with the highest predicted IoU: logits, (B, 1, 4H, 4W), and that IoU, (B,)."""
        logits, tokens = self.decode(inputs, text, prompts, slice(1, None))
        iou, best = self.mask_decoder.iou_prediction_head(tokens[:, 0])[:, 1:].max(1)
        return logits.gather(1, best[:, None, None, None].expand(-1, 1, *logits.shape[2:])), iou

    @torch.no_grad()
    def ious(self, seg_logits: Tensor, batch_data_samples: SampleList) -> Tensor:
        """As in `SAMHead`, each at the size of its mask."""
        pairs = zip(seg_logits.split(1), batch_data_samples)
        return torch.cat(
            [self._ious(self._at_size_of_mask(logits, one), one.gt_sem_seg.data[None]) for logits, one in pairs]
        )

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """The mean over the masks of the losses of each at its own size, and the batch's mean IoU for the log.

        Args:
            seg_logits: (B, 1, h, w).
            batch_data_samples: With `gt_sem_seg` of shape (1, H, W) in {0, 1}, each of its own size, and in the
                metainfo `pad_shape` and `padding_size`.
        """
        losses = [
            super(EVFSAMHead, self).loss_by_feat(self._at_size_of_mask(logits, sample), [sample])
            for logits, sample in zip(seg_logits.split(1), batch_data_samples)
        ]
        return {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}

    def _at_size_of_mask(self, seg_logits: Tensor, sample: Any) -> Tensor:
        """Logits (1, 1, h, w) at the size of the sample's mask."""
        height, width = sample.metainfo['pad_shape'][:2]
        left, right, top, bottom = sample.metainfo['padding_size']
        upsampled = self._upsample(seg_logits, (height, width))
        if not sample.metainfo.get('mask_is_padded'):
            upsampled = upsampled[..., top : height - bottom, left : width - right]
        return resize(upsampled, sample.gt_sem_seg.data.shape[-2:], 'bilinear', align_corners=False)
