"""The sentences of a batch, and how they reach the backbone of a model that knows no text."""

from collections.abc import Sequence
from typing import Any

from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor

from ...errors import InputError
from ..backbones import StandaloneDITViT


def sentences_of(data_samples: Sequence[BaseDataElement]) -> list[str]:
    """`text` in the metainfo of every data sample.

    Raises:
        InputError: A data sample has none.
    """
    lacking = [i for i, sample in enumerate(data_samples) if 'text' not in sample.metainfo]
    if lacking:
        raise InputError(
            f"data sample {lacking[0]} has no 'text' in its metainfo: add 'text' to the meta_keys of "
            'the pipeline, or end it with PackReferringInputs'
        )
    return [sample.metainfo['text'] for sample in data_samples]


class SentencesFromSamples:
    """A mixin for any model of mmseg or mmdet: its `StandaloneDITViT` hears the sentence of each data sample.

    ``class InstructedDETR(SentencesFromSamples, DETR)`` is all that it takes. Where no data sample has a sentence, the
    backbone's own `text` is the instruction.
    """

    def forward(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None, mode: str = 'tensor'
    ) -> Any:
        """As in the model.

        Raises:
            InputError: A data sample has no sentence while others have, or the backbone has no `text` either; or it is
                a backbone that does not hear sentences.
        """
        # The backbone may be wrapped (FSDP, torch.compile).
        backbone = next((part for part in self.backbone.modules() if isinstance(part, StandaloneDITViT)), None)
        if backbone is None:
            raise InputError(
                f'{type(self).__name__} passes sentences to its backbone, and '
                f'{type(self.backbone).__name__} takes none: set model.backbone.type=StandaloneDITViT'
            )
        silent = not any('text' in sample.metainfo for sample in data_samples or ())
        own = data_samples is None or (silent and backbone.text is not None)
        with backbone.hearing(None if own else sentences_of(data_samples)):
            return super().forward(inputs, data_samples, mode)


@MODELS.register_module()
class InstructedEncoderDecoder(SentencesFromSamples, EncoderDecoder):
    """mmseg's `EncoderDecoder`, whose `StandaloneDITViT` hears the sentence of each image.

    Arguments as in the parent.
    """
