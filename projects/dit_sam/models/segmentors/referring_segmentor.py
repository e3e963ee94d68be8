"""Text encoder → (instructed) image encoder → mask decoder."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from ...errors import InputError, log_warning
from ...structures import SpatialPrompts, TextFeatures, index_tensor
from ..weights.released_text import layers_of_text, released_text_warning, without_upper_layers
from ..weights.state_dict_maps import EVF_SAM, RELEASED_DIT, best_layout
from .sample_inputs import sentences_of, text_encoder_images

PARTS = ('backbone', 'decode_head', 'text_encoder')


# Tensors, in tuples that may be nested.
Trunk: TypeAlias = tuple


@MODELS.register_module()
class ReferringSegmentor(BaseSegmentor):
    """Referring image segmentation: predicts the mask of the object that a sentence describes.

    Text goes to the parts (backbone, head) whose `forward` has an argument `text`, points and boxes to those that have
    `prompts`, and the images of `AddTextEncoderImage` to a text encoder that has `images`; other parts are called as
    mmseg calls them. So any mmseg backbone runs with `SAMHead`, and `DITViT` with any mmseg head. A part whose
    `forward` has `**kwargs` gets text and prompts. A part with `takes_text = False`, such as `DITViT` without an
    instruction, gets no text. This is decided when the model is built or a part is replaced; wrapping a part (FSDP,
    `torch.compile`) does not change it. Data samples of a batch that share an image share what does not depend on
    text.

    The metainfo of a data sample has `text`, and may have `points` (n, 2) with `point_labels` (n,), 1 inside and 0
    outside, and `box` (x0, y0, x1, y1), in pixels of the image before the data preprocessor pads it.

    Args:
        backbone: Config of the image encoder.
        decode_head: Config of the mask decoder.
        text_encoder: Config of the text encoder; None ignores sentences, as SAM does, with parts that take no text.
        neck: Config of a neck between the two.
        scaled_points: Whether resizing scales the coordinates of points, as SAM's predictor does. By default the center
            of a pixel stays a center, up to half a pixel away. Data samples need mmcv's `scale_factor`.
        train_cfg: As in mmseg.
        test_cfg: As in mmseg, without `mode='slide'`. With `keep_input_probabilities=True` predictions also have
            `input_probabilities`, (1, h, w), at the size of the network's input without padding, for
            `ReferringIoU(protocol='dit')`.
        data_preprocessor: As in mmengine.
        init_cfg: As in mmengine.
        pretrained: None, which mmseg's `init_model` passes.

    Raises:
        InputError: Neither backbone nor head takes the text of the text encoder; or one has `takes_text=True` and there
            is no text encoder; or its `forward` has no argument `text`; or `test_cfg` asks for tiles; or inputs are no
            whole patches.
    """

    # Weights made in inference mode cannot train and have no version counter.
    @torch.inference_mode(False)
    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        text_encoder: dict | None = None,
        neck: dict | None = None,
        scaled_points: bool = False,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if pretrained is not None:
            raise InputError(
                f"model.pretrained={pretrained!r}: name the file as dict(type='Pretrained', checkpoint=FILE) in the "
                'init_cfg of backbone and decode_head'
            )
        if (mode := (test_cfg or {}).get('mode', 'whole')) != 'whole':
            raise InputError(
                f"model.test_cfg.mode={mode!r}: a sentence is about the whole image, so there are no tiles; use 'whole'"
            )
        self.text_encoder = None if text_encoder is None else MODELS.build(text_encoder)
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
        self.decode_head = MODELS.build(decode_head)
        # What `forward` of each part takes.
        self._accepted = {part: _accepted_by(getattr(self, part)) for part in PARTS}
        self._check_text()
        self._check_size()
        # Only for resizing from the input's size to the original one; the head has its own `align_corners`.
        self.align_corners = False
        self.scaled_points = scaled_points
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def __setattr__(self, name: str, value: Any) -> None:
        accepted, before = self.__dict__.get('_accepted', {}), self.__dict__.get('_modules', {}).get(name)
        super().__setattr__(name, value)
        wraps = before is not None and value is not None and any(part is before for part in value.modules())
        if name in accepted and not wraps:
            accepted[name] = _accepted_by(value)
            # Not checked here: a second part may be replaced next.
            self._text_is_checked = False

    def _check_text(self) -> None:
        """Raise `InputError` if no part takes the text of the text encoder, or a part takes text and none is given."""
        takers = [part for part in ('backbone', 'decode_head') if 'text' in self._accepted[part]]
        names = {part: f'model.{part} ({type(getattr(self, part)).__name__})' for part in ('backbone', 'decode_head')}
        if self.text_encoder is not None and hasattr(self.backbone, 'text_encoder'):
            raise InputError(
                f'{names["backbone"]} has its own text encoder, so that of model.text_encoder would be one too many: '
                'set model.backbone.type=DITViT, without text_encoder and text'
            )
        if self.text_encoder is not None and not takers:
            raise InputError(
                f'model.text_encoder gives text that no part takes: {names["backbone"]} has no instruction and '
                f'{names["decode_head"]} no text_dims; set model.backbone.type=DITViT with an instruction, or '
                'model.decode_head.type=SAMHead with text_dims, or model.text_encoder=None'
            )
        if self.text_encoder is None:
            for module, part in ((getattr(self, part), part) for part in takers):
                # A StandaloneDITViT has its own text encoder.
                if getattr(module, 'takes_text', False) and not hasattr(module, 'text_encoder'):
                    raise InputError(
                        f'{names[part]} takes text, and model.text_encoder=None gives none, so sentences would change '
                        'nothing: set model.text_encoder, or for SAM itself model.backbone.instruction=None and '
                        'model.decode_head.text_dims=None'
                    )
        self._text_is_checked = True

    def _check_size(self) -> None:
        """Raise `InputError` if inputs are no whole patches: the encoder would pad them, and masks would be moved."""
        patch: Any = getattr(self.backbone, 'patch_size', None)
        # With a size, the divisor has no effect.
        key = 'size_divisor' if getattr(self.data_preprocessor, 'size', None) is None else 'size'
        value: Any = getattr(self.data_preprocessor, key, None)
        if isinstance(patch, int) and value is not None and np.any(np.mod(value, patch)):
            raise InputError(
                f'model.data_preprocessor.{key}={value} is no multiple of model.backbone.patch_size={patch}: set one '
                'that is'
            )

    def to_own_names(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of the released DIT or EVF-SAM under the names of this model; others as they are.

        Weights of the released DIT log a warning if this model reads text in another way than they were trained to.
        """
        layout = best_layout(weights)
        if layout is RELEASED_DIT:
            weights = without_upper_layers(weights, layers_of_text(self.text_encoder))
            if warning := released_text_warning(self.text_encoder):
                log_warning(warning)
        return layout.to_ours(weights) if layout in (RELEASED_DIT, EVF_SAM) else weights

    def encode_text(self, data_samples: OptSampleList) -> TextFeatures | None:
        """The text features of a batch; None without data samples or without a text encoder.

        Raises:
            InputError: A data sample has no sentence; or the text encoder takes images, and one has no image for it.
        """
        if data_samples is None or self.text_encoder is None:
            return None
        sentences = sentences_of(data_samples)
        if 'images' not in self._accepted['text_encoder']:
            return self.text_encoder(sentences)
        return self.text_encoder(sentences, images=text_encoder_images(data_samples))

    def collect_prompts(self, inputs: Tensor, data_samples: OptSampleList) -> SpatialPrompts | None:
        """Points and boxes of a batch in pixels of the padded input; None where no data sample has any."""
        metas = [sample.metainfo for sample in data_samples or ()]
        if not any('points' in meta or 'box' in meta for meta in metas):
            return None
        points, boxes = [], []
        for meta in metas:
            left, _, top, _ = meta.get('padding_size', (0, 0, 0, 0))
            margin = torch.tensor([left, top, left, top], dtype=torch.float32)
            boxes.append(None if meta.get('box') is None else torch.as_tensor(meta['box']) + margin)
            # (x + 0.5) · scale − 0.5 to x · scale.
            shift = 0.5 - 0.5 * torch.tensor(meta.get('scale_factor', (1.0, 1.0))) if self.scaled_points else 0.0
            points.append(None if meta.get('points') is None else torch.as_tensor(meta['points']) + margin[:2] + shift)
        labels = [meta.get('point_labels') for meta in metas]
        height, width = inputs.shape[2:]
        return SpatialPrompts.collate(points, labels, boxes, (height, width), inputs.device)

    @staticmethod
    def distinct_images(inputs: Tensor, data_samples: OptSampleList) -> tuple[Tensor, Tensor | None]:
        """The different images among (S, 3, H, W), and for each data sample the index of its image, (S,).

        The index is None where no two images are the same by the `unique_image_index` of the data preprocessor.
        """
        indices = [sample.metainfo.get('unique_image_index') for sample in data_samples or ()]
        distinct = list(dict.fromkeys(indices))
        if None in distinct or len(distinct) == len(indices):
            return inputs, None
        image_index = index_tensor([distinct.index(index) for index in indices], inputs.device)
        return inputs[index_tensor([indices.index(index) for index in distinct], inputs.device)], image_index

    def trunk(self, inputs: Tensor) -> Trunk | None:
        """What does not depend on text, for preprocessed images (B, 3, H, W); None if everything does.

        A data sample that has it as `trunk`, for its image alone, does without this part of the work.
        """
        if 'text' not in self._accepted['backbone']:
            return self.extract_feat(inputs)
        return self.backbone.trunk(inputs) if 'trunk' in self._accepted['backbone'] else None

    def extract_feat(
        self,
        inputs: Tensor,
        text: TextFeatures | None = None,
        image_index: Tensor | None = None,
        trunk: Trunk | None = None,
    ) -> tuple[Tensor, ...]:
        """Feature maps, one for each sentence; arguments as in `DITViT.forward`.

        A backbone that takes no text runs once for each image.

        Raises:
            InputError: A part was replaced, and the parts do not fit each other; see the class.
        """
        if not self._text_is_checked:
            self._check_text()
        if trunk is not None and 'text' not in self._accepted['backbone']:
            return trunk if image_index is None else tuple(maps[image_index] for maps in trunk)
        accepted = self._accepted_of('backbone', text=text, image_index=image_index, trunk=trunk)
        if image_index is not None and 'text' in accepted and 'image_index' not in accepted:
            inputs, image_index = inputs[image_index], None
        features = self.backbone(inputs, **accepted)
        features = self.neck(features) if self.with_neck else features
        if image_index is None or 'image_index' in accepted:
            return features
        return tuple(maps[image_index] for maps in features)

    def _prepare(self, inputs: Tensor, data_samples: OptSampleList) -> tuple[tuple[Tensor, ...], dict]:
        """Feature maps, and the keywords that prompt the head."""
        text = self.encode_text(data_samples)
        prompts = self.collect_prompts(inputs, data_samples)
        images, image_index = self.distinct_images(inputs, data_samples)
        trunks = [getattr(sample, 'trunk', None) for sample in data_samples or ()]
        if trunks and all(trunk is not None for trunk in trunks):
            distinct = list({id(trunk): trunk for trunk in trunks}.values())
            order = [next(i for i, each in enumerate(distinct) if each is trunk) for trunk in trunks]
            images = inputs[index_tensor([order.index(i) for i in range(len(distinct))], inputs.device)]
            features = self.extract_feat(images, text, index_tensor(order, inputs.device), _joined(distinct))
        else:
            features = self.extract_feat(images, text, image_index)
        return features, self._accepted_of('decode_head', text=text, prompts=prompts)

    def _accepted_of(self, part: str, **keywords: TextFeatures | SpatialPrompts | Tensor | Trunk | None) -> dict:
        """Those of the keywords that the part takes."""
        return {name: value for name, value in keywords.items() if name in self._accepted[part]}

    def encode_decode(self, inputs: Tensor, data_samples: OptSampleList) -> Tensor:
        """Mask logits at the size of the padded input, (B, out_channels, H, W).

        Raises:
            InputError: There are no data samples.
        """
        return self._decode(inputs, data_samples)[0]

    def _decode(self, inputs: Tensor, data_samples: OptSampleList) -> tuple[Tensor, Tensor | None]:
        """Mask logits as in `encode_decode`, and the IoU of each mask if the head predicts it, (B,)."""
        _require(data_samples, 'predict')
        metas = [dict(sample.metainfo, pad_shape=inputs.shape[2:]) for sample in data_samples]
        for meta in metas:
            # mmseg's heads take a torch.Size for that of a tile.
            meta['img_shape'] = tuple(meta.get('img_shape', meta['pad_shape']))
        features, prompted = self._prepare(inputs, data_samples)
        if getattr(self.decode_head, 'predicts_iou', False):
            return self.decode_head.predict_with_iou(features, metas, self.test_cfg, **prompted)
        return self.decode_head.predict(features, metas, self.test_cfg, **prompted), None

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of a batch, under names that begin with `decode.`.

        Raises:
            InputError: There are no data samples.
        """
        _require(data_samples, 'loss')
        features, prompted = self._prepare(inputs, data_samples)
        return add_prefix(self.decode_head.loss(features, data_samples, self.train_cfg, **prompted), 'decode')

    def predict(self, inputs: Tensor, data_samples: SampleList) -> SampleList:
        """The data samples with `pred_sem_seg` (1, H, W) and `seg_logits` at the original size.

        `seg_logits` are probabilities (1, H, W) for a head with one output channel, and logits (C, H, W) for others.
        If the head predicts the IoU of its masks, they also have it, in [0, 1], as `predicted_iou`.
        """
        logits, ious = self._decode(inputs, data_samples)
        for sample in data_samples:
            sample.pop('trunk', None)
        if ious is not None:
            for sample, iou in zip(data_samples, ious.float().clamp(0, 1).tolist()):
                sample.set_data(dict(predicted_iou=iou))
        if (self.test_cfg or {}).get('keep_input_probabilities'):
            self._attach_input_probabilities(logits, data_samples)
        return self.postprocess_result(logits, data_samples)

    def _attach_input_probabilities(self, logits: Tensor, data_samples: SampleList) -> None:
        # mmseg's last step without its resize, as if the original size were the input's.
        metas = [dict(sample.metainfo, ori_shape=sample.img_shape) for sample in data_samples]
        unresized = self.postprocess_result(logits, [SegDataSample(metainfo=meta) for meta in metas])
        for sample, result in zip(data_samples, unresized):
            values = result.seg_logits.data
            # mmseg gives probabilities for one channel, logits for two.
            sample.input_probabilities = PixelData(data=values if len(values) == 1 else values.softmax(0)[1:])

    def _forward(self, inputs: Tensor, data_samples: OptSampleList = None) -> Tensor:
        """The head's own output, (B, out_channels, h, w)."""
        features, prompted = self._prepare(inputs, data_samples)
        return self.decode_head(features, **prompted)


def _require(data_samples: OptSampleList, mode: str) -> None:
    if data_samples is None:
        raise InputError(f'mode={mode!r} needs data_samples: the sentence of each image is in their metainfo')


def _joined(trunks: Sequence[Any]) -> Any:
    """The trunks of several images as one."""
    if len(trunks) == 1 or isinstance(trunks[0], Tensor):
        return trunks[0] if len(trunks) == 1 else torch.cat(list(trunks))
    return tuple(map(_joined, zip(*trunks)))


def _accepted_by(part: nn.Module | None) -> set[str]:
    """Which of `text`, `images`, `image_index`, `prompts` and `trunk` the part takes."""
    if part is None:
        return set()
    parameters = inspect.signature(part.forward).parameters.values()
    names = {parameter.name for parameter in parameters} & {'text', 'images', 'image_index', 'prompts', 'trunk'}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names |= {'text', 'prompts'}
    takes_text = getattr(part, 'takes_text', None)
    if takes_text and 'text' not in names:
        raise InputError(
            f'{type(part).__name__}.forward has no argument `text`, so no text would reach it: add '
            'text=None or **kwargs to it'
        )
    return names - {'text'} if takes_text is False else names
