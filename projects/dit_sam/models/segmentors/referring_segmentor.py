"""Text encoder → (instructed) image encoder → mask decoder."""
import inspect

from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import MODELS
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from ...structures import TextFeatures


@MODELS.register_module()
class ReferringSegmentor(BaseSegmentor):
    """Referring image segmentation: the mask of the one object that the sentence means.

    Text goes to those parts whose `forward` has an argument `text`; the others are called as mmseg calls them. So any
    mmseg backbone runs with `SAMHead`, and `DITViT` with any mmseg head.

    Args:
        backbone: Config of the image encoder.
        decode_head: Config of the mask decoder.
        text_encoder: Config of the text encoder.
        neck: Config of a neck between the two.
        train_cfg: As in mmseg.
        test_cfg: As in mmseg.
        data_preprocessor: As in mmengine.
        init_cfg: As in mmengine.
    """

    def __init__(self,
                 backbone: dict,
                 decode_head: dict,
                 text_encoder: dict,
                 neck: dict | None = None,
                 train_cfg: dict | None = None,
                 test_cfg: dict | None = None,
                 data_preprocessor: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.text_encoder = MODELS.build(text_encoder)
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
        self.decode_head = MODELS.build(decode_head)
        # Only for the last step, from the input's size to the original one; the head says how it upsamples its own.
        self.align_corners = False
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def encode_text(self, data_samples: OptSampleList) -> TextFeatures | None:
        """The sentences of a batch, encoded; None without data samples.

        Raises:
            KeyError: A data sample has no sentence.
        """
        if data_samples is None:
            return None
        lacking = [i for i, sample in enumerate(data_samples) if 'text' not in sample.metainfo]
        if lacking:
            raise KeyError(f"data sample {lacking[0]} has no 'text' in its metainfo: add 'text' to the meta_keys of the "
                           'pipeline, or end it with PackReferringInputs')
        return self.text_encoder([sample.metainfo['text'] for sample in data_samples])

    def extract_feat(self, inputs: Tensor, text: TextFeatures | None = None) -> tuple[Tensor, ...]:
        """Feature maps of images (B, 3, H, W) under the sentences `text`."""
        features = self.backbone(inputs, **_text_for(self.backbone, text))
        return self.neck(features) if self.with_neck else features

    def encode_decode(self, inputs: Tensor, data_samples: OptSampleList) -> Tensor:
        """Mask logits at the size of the padded input, (B, out_channels, H, W)."""
        text = self.encode_text(data_samples)
        metas = [dict(sample.metainfo, pad_shape=inputs.shape[2:]) for sample in data_samples]
        return self.decode_head.predict(
            self.extract_feat(inputs, text), metas, self.test_cfg, **_text_for(self.decode_head, text))

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of a batch, under names that begin with `decode.`."""
        text = self.encode_text(data_samples)
        features = self.extract_feat(inputs, text)
        losses = self.decode_head.loss(features, data_samples, self.train_cfg, **_text_for(self.decode_head, text))
        return add_prefix(losses, 'decode')

    def predict(self, inputs: Tensor, data_samples: SampleList) -> SampleList:
        """The data samples with `pred_sem_seg` and `seg_logits` (probabilities), (1, H, W), at the original size."""
        return self.postprocess_result(self.encode_decode(inputs, data_samples), data_samples)

    def _forward(self, inputs: Tensor, data_samples: OptSampleList = None) -> Tensor:
        """The head's own output, (B, out_channels, h, w)."""
        text = self.encode_text(data_samples)
        return self.decode_head(self.extract_feat(inputs, text), **_text_for(self.decode_head, text))


def _text_for(module: nn.Module, text: TextFeatures | None) -> dict[str, TextFeatures | None]:
    """The keyword that hands `text` to a module whose `forward` takes it, nothing for others."""
    return dict(text=text) if 'text' in inspect.signature(module.forward).parameters else {}
