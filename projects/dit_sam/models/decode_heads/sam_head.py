"""SAM's prompt encoder and mask decoder as an mmseg decode head that takes text."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor, nn

from ...errors import InputError, log_warning
from ...structures import SpatialPrompts, TextFeatures
from ..layers import resize
from ..losses import check_losses, sentence_contrast
from ..weights import load_sam_weights, pretrained_init_cfg
from .mask_decoder import MaskedTwoWayTransformer, PairedMaskDecoder
from .prompt_encoder import PairedPromptEncoder

# Blocks of the two-way transformer in SAM's checkpoints.
SAM_DEPTH = 2


@MODELS.register_module()
class SAMHead(BaseDecodeHead):
    """SAM's mask decoder prompted by text: all text tokens, projected, are its sparse prompt (DIT, section 3.4).

    Points and a box can prompt it too, with the text or alone. Unlike `BaseDecodeHead` it has one output channel, takes
    prompts, and upsamples with corners aligned. State-dict names under `prompt_encoder.` and `mask_decoder.` are SAM's.
    Parts without training (mask prompts, multi-mask output; points and boxes unless `spatial_prompts`, the IoU head
    unless `predict_iou`) are kept for SAM's weights and frozen.

    Args:
        in_channels: Channels of the image embedding, also the decoder's width C.
        text_dims: Width of the text features, D_t; None makes SAM's own head, without a text projection.
        spatial_prompts: Whether the embeddings of points and boxes train. These prompts are accepted either way.
        predict_iou: Whether SAM's IoU head trains to predict the IoU of the mask. The prediction is then the mask's
            score.
        iou_weight: Weight of its squared error.
        negatives_weight: Weight of `sentence_contrast`, in which the sentences of an image are each other's negatives.
            It needs batches with several sentences of an image (`sentences_per_image` of the data).
        depth: Blocks of the two-way transformer; SAM's 2, the paper's Table 1 also 4 and 6.
        num_heads: Attention heads of the decoder.
        mlp_dim: Hidden width of its MLPs.
        iou_head_hidden_dim: Hidden width of SAM's IoU head.
        threshold: Probability above which a pixel belongs to the mask (released DIT: 0.35).
        loss_decode: Losses on the full-resolution mask; the paper uses binary cross-entropy alone.
        align_corners: Whether logits are upsampled with corners aligned.
        init_cfg: As in mmengine; see `init_weights`.
        **kwargs: As in `BaseDecodeHead`, without `channels`, `num_classes`, `out_channels`, `sampler` and
            `dropout_ratio`.

    Raises:
        InputError: One of these keywords is set, a loss does not train the mask (see `check_losses`), or
            `negatives_weight` is set where losses are at the size of each mask.
    """

    pooled_prompt = False
    """Whether `TextFeatures.pooled` prompts it, and not the text's tokens."""
    loss_at_mask_size = False
    """Whether the losses are at the masks' own sizes."""

    def __init__(
        self,
        in_channels: int = 256,
        text_dims: int | None = 768,
        spatial_prompts: bool = False,
        predict_iou: bool = False,
        iou_weight: float = 1.0,
        negatives_weight: float = 0.0,
        depth: int = 2,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        iou_head_hidden_dim: int = 256,
        threshold: float = 0.35,
        loss_decode: dict | list[dict] = dict(type='BinaryCrossEntropyLoss', _scope_='mmseg'),
        align_corners: bool = True,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        self._check_keywords(kwargs)
        super().__init__(
            in_channels,
            in_channels,
            num_classes=2,
            out_channels=1,
            threshold=threshold,
            dropout_ratio=0,
            loss_decode=loss_decode,
            align_corners=align_corners,
            init_cfg=init_cfg,
            **kwargs,
        )
        del self.conv_seg
        self._warned = False
        self.text_dims, self.depth = text_dims, depth
        if negatives_weight and self.loss_at_mask_size:
            raise InputError(
                f'{type(self).__name__} has its losses at the size of each mask, where sentences of an image are not '
                'compared: leave out decode_head.negatives_weight'
            )
        self.predicts_iou, self.iou_weight, self.negatives_weight = predict_iou, iou_weight, negatives_weight
        # SAM's sizes, which matter for its mask prompts only.
        self.prompt_encoder = PairedPromptEncoder(in_channels, (64, 64), (1024, 1024), mask_in_chans=16)
        self.mask_decoder = PairedMaskDecoder(
            transformer_dim=in_channels,
            transformer=MaskedTwoWayTransformer(depth, in_channels, num_heads, mlp_dim),
            iou_head_hidden_dim=iou_head_hidden_dim,
        )
        check_losses(self.loss_decode)
        if text_dims is not None:
            self.text_proj: nn.Module = nn.Linear(text_dims, in_channels)
        for untrained in (self.prompt_encoder.mask_downscaling, self.mask_decoder.output_hypernetworks_mlps[1:]):
            untrained.requires_grad_(False)
        self.mask_decoder.iou_prediction_head.requires_grad_(predict_iou)
        for embeddings in (self.prompt_encoder.point_embeddings, self.prompt_encoder.not_a_point_embed):
            embeddings.requires_grad_(spatial_prompts)

    def _check_keywords(self, kwargs: dict[str, Any]) -> None:
        """Raise `InputError` for settings of mmseg's heads that this one lacks; remove those that are off."""
        for name in ('sampler', 'dropout_ratio'):
            if kwargs.pop(name, None):
                raise InputError(f'{type(self).__name__} has no use for decode_head.{name}: leave it out')
        for name in ('channels', 'num_classes', 'out_channels'):
            if name in kwargs:
                raise InputError(
                    f'decode_head.{name}={kwargs[name]}: {type(self).__name__} has one mask, and the channels of '
                    f'decode_head.in_channels; leave {name} out'
                )

    def init_weights(self) -> None:
        """As in `BaseDecodeHead`; `init_cfg=dict(type='Pretrained', checkpoint=...)` reads SAM's own file.

        The text projection, and blocks of the transformer beyond SAM's, keep their random weights.
        """
        pretrained = None if self.is_init else pretrained_init_cfg(self.init_cfg)
        if pretrained is None:
            super().init_weights()
            return
        parts = {part: part for part in ('prompt_encoder.', 'mask_decoder.')}
        load_sam_weights(self, pretrained['checkpoint'], parts, extra_prefixes=self.extra_prefixes)
        self._is_init = True

    @property
    def takes_text(self) -> bool:
        """Whether text prompts it."""
        return self.text_dims is not None

    @property
    def extra_prefixes(self) -> tuple[str, ...]:
        """Prefixes of weights that SAM does not have."""
        extra = [f'mask_decoder.transformer.layers.{i}.' for i in range(SAM_DEPTH, self.depth)]
        return (*(() if self.text_dims is None else ('text_proj.',)), 'loss_decode.', *extra)

    def forward(
        self, inputs: tuple[Tensor, ...], text: TextFeatures | None = None, prompts: SpatialPrompts | None = None
    ) -> Tensor:
        """Mask logits (B, 1, 4H, 4W); see `decode`."""
        return self.decode(inputs, text, prompts)[0]

    def decode(
        self,
        inputs: tuple[Tensor, ...],
        text: TextFeatures | None = None,
        prompts: SpatialPrompts | None = None,
        masks: slice = slice(1),
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            inputs: Maps of the backbone or neck, (B, C, H, W), of which `in_index` selects one.
            text: The sentence of each image.
            prompts: Points and boxes of each image. Without text and prompts the decoder is not prompted.
            masks: As in `PairedMaskDecoder`.

        Returns:
            As in `PairedMaskDecoder`.

        Raises:
            InputError: The text has another width than `text_dims`, the head takes no text, or there are more or fewer
                sentences or prompts than images.
        """
        image = self._transform_inputs(inputs)
        if prompts is None:
            prompts = SpatialPrompts.none(image.shape[0], image.shape[2:], image.device)
        # Not `len`, which would fix the batch in an exported model.
        for mask, what in ((prompts.mask, 'prompts'), (prompts.mask if text is None else text.mask, 'sentences')):
            if mask.shape[0] != image.shape[0]:
                raise InputError(f'{len(image)} images with {len(mask)} {what}: give one for each image')
        sparse, mask = self.prompt_encoder(prompts), prompts.mask
        if text is None and self.takes_text and not prompts.mask.shape[1]:
            self._warn_of_no_text()
        if text is not None:
            self._check_width(text)
            words, words_mask = self.text_prompt(text)
            sparse, mask = torch.cat([sparse, words], 1), torch.cat([mask, words_mask], 1)
        dense = self.prompt_encoder.no_mask_embed.weight[..., None, None]
        image_pe = self.prompt_encoder.grid_code(image.shape[2:])
        return self.mask_decoder(image, image_pe, sparse, dense, mask, masks)

    def _warn_of_no_text(self) -> None:
        """Warn, once, that sentences do not reach the head: mmseg's own models pass none."""
        if not self._warned:
            self._warned = True
            log_warning(
                f'{type(self).__name__} has text_dims={self.text_dims} and gets no text, so sentences change nothing '
                'in it: set decode_head.text_dims=None, or model.type=ReferringSegmentor with a text_encoder'
            )

    def text_prompt(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """The prompt tokens of a text, (B, L, C), and True at real ones, (B, L)."""
        return self.text_proj(text.tokens), text.mask

    def _check_width(self, text: TextFeatures) -> None:
        if self.text_dims is None:
            raise InputError(
                'decode_head.text_dims=None makes a head without text: set it to the width of the text '
                f'features, {text.tokens.shape[-1]}, or leave model.text_encoder out'
            )
        if text.tokens.shape[-1] != self.text_dims:
            raise InputError(
                f'the text encoder gives features of width {text.tokens.shape[-1]}, the head expects '
                f'text_dims={self.text_dims}; set decode_head.text_dims in the config'
            )

    def loss(
        self, inputs: tuple[Tensor, ...], batch_data_samples: SampleList, train_cfg: dict | None = None, **prompts: Any
    ) -> dict[str, Tensor]:
        """Losses of a batch; `prompts` are `text` and `prompts` of `decode`.

        Raises:
            InputError: The losses are at the size of the padded input, and masks were not padded.
        """
        if self.predicts_iou:
            return self.losses_of(*self.decode(inputs, **prompts), batch_data_samples)
        self._check_padded(batch_data_samples)
        return self.loss_by_feat(self.forward(inputs, **prompts), batch_data_samples)

    def losses_of(self, seg_logits: Tensor, tokens: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of what `decode` returns; errors as in `loss`."""
        self._check_padded(batch_data_samples)
        losses = self.loss_by_feat(seg_logits, batch_data_samples)
        if self.predicts_iou:
            truth = self.ious(seg_logits, batch_data_samples)
            losses['loss_iou'] = self.iou_weight * F.mse_loss(self.predicted_iou(tokens).float(), truth)
        return losses

    def _check_padded(self, batch_data_samples: SampleList) -> None:
        for sample in () if self.loss_at_mask_size else batch_data_samples:
            padded, padding = sample.metainfo.get('mask_is_padded', True), sample.metainfo.get('padding_size', ())
            if not padded and (any(padding) or sample.gt_sem_seg.shape != tuple(sample.metainfo['pad_shape'])):
                raise InputError(
                    f'{type(self).__name__} compares masks with the padded input: leave out '
                    'data_preprocessor.pad_masks=False'
                )

    def predict(
        self, inputs: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict | None = None, **prompts: Any
    ) -> Tensor:
        """Mask logits at the size of the padded input, (B, 1, H, W); `prompts` as in `loss`."""
        return self.predict_by_feat(self.forward(inputs, **prompts), batch_img_metas)

    def predict_with_iou(
        self, inputs: tuple[Tensor, ...], batch_img_metas: list[dict], test_cfg: dict | None = None, **prompts: Any
    ) -> tuple[Tensor, Tensor]:
        """As `predict`, with the predicted IoU of each mask, (B,); without `predict_iou` it means nothing."""
        seg_logits, tokens = self.decode(inputs, **prompts)
        return self.finish_masks(seg_logits, tokens, batch_img_metas), self.predicted_iou(tokens)

    def finish_masks(self, seg_logits: Tensor, tokens: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Mask logits at the size of the padded input, from what `decode` returns."""
        return self.predict_by_feat(seg_logits, batch_img_metas)

    def predicted_iou(self, tokens: Tensor) -> Tensor:
        """The IoU that SAM's IoU token predicts for the mask, (B,)."""
        return self.mask_decoder.iou_prediction_head(tokens[:, 0])[:, 0]

    @torch.no_grad()
    def ious(self, seg_logits: Tensor, batch_data_samples: SampleList) -> Tensor:
        """The IoU of each mask with the truth at the size at which losses compare them, (B,)."""
        label = self._stack_batch_gt(batch_data_samples)
        return self._ious(self._upsample(seg_logits, label.shape[2:]), label)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses on the masks at full resolution, and the batch's mean IoU for the log.

        Args:
            seg_logits: (B, 1, h, w).
            batch_data_samples: With `gt_sem_seg` of shape (1, H, W) in {0, 1}.

        Raises:
            InputError: With `negatives_weight`, the samples do not say which of them share an image.
        """
        label = self._stack_batch_gt(batch_data_samples)
        logits = self._upsample(seg_logits, label.shape[2:])
        losses: dict[str, Tensor] = {}
        for loss in self.loss_decode if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]:
            value = loss(logits, label.squeeze(1), ignore_index=self.ignore_index)
            name = cast(str, loss.loss_name)
            losses[name] = losses[name] + value if name in losses else value
        if self.negatives_weight:
            images = [sample.metainfo.get('unique_image_index') for sample in batch_data_samples]
            if None in images:
                raise InputError(
                    'decode_head.negatives_weight needs to know which sentences share an image: set '
                    "model.data_preprocessor.type='ReferringDataPreProcessor', or leave it out"
                )
            contrast = sentence_contrast(logits, label.squeeze(1), images, self.ignore_index)
            losses['loss_negatives'] = self.negatives_weight * contrast
        losses['mean_iou'] = 100 * self._ious(logits, label).mean()
        return losses

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits (B, 1, h, w) at the size of the padded input, in float32 at least."""
        meta = batch_img_metas[0]
        # As in BaseDecodeHead: the tiles of mode='slide' have a torch.Size, and mmcv's Resize notes no pad_shape.
        is_tile = isinstance(meta.get('img_shape'), torch.Size)
        return self._upsample(seg_logits, meta['img_shape' if is_tile or 'pad_shape' not in meta else 'pad_shape'][:2])

    def _upsample(self, seg_logits: Tensor, size: tuple[int, int]) -> Tensor:
        return resize(seg_logits, size, 'bilinear', self.align_corners)

    @torch.no_grad()
    def _ious(self, logits: Tensor, label: Tensor) -> Tensor:
        """The IoU of each mask, (B,); 1 where both are empty.

        As in the losses, pixels with the label `ignore_index` do not count.
        """
        prediction = (logits.sigmoid() > self.threshold) & (label != self.ignore_index)
        truth = label == 1
        intersection, union = ((prediction & truth).flatten(1).sum(1), (prediction | truth).flatten(1).sum(1))
        return torch.where(union > 0, intersection / union.clamp(min=1), 1.0)
