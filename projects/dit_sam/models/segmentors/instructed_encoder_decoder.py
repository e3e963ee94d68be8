"""Passes the sentences of a batch to the backbone of a model that does not handle text."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from mmengine.structures import BaseDataElement
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...errors import InputError
from ..backbones import StandaloneDITViT
from .sample_inputs import sentences_of


class SentencesFromSamples:
    """A mixin for models of mmseg and mmdet that passes the sentence of each data sample to a `StandaloneDITViT`.

    Use it as `class InstructedDETR(SentencesFromSamples, DETR): pass`. A data sample without one has the
    backbone's own `text`.
    """

    backbone: nn.Module

    def forward(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None, mode: str = 'tensor'
    ) -> Any:
        """As in the model; errors as in `sentences_from`."""
        with self.sentences_from(data_samples):
            return super().forward(inputs, data_samples, mode)  # type: ignore[misc]

    # `forward` calls these two, and so may a user.
    def loss(self, inputs: Tensor, data_samples: Sequence[BaseDataElement], *args: Any, **kwargs: Any) -> Any:
        """As in the model; errors as in `sentences_from`."""
        with self.sentences_from(data_samples):
            return super().loss(inputs, data_samples, *args, **kwargs)  # type: ignore[misc]

    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As in the model; errors as in `sentences_from`."""
        with self.sentences_from(data_samples):
            return super().predict(inputs, data_samples, *args, **kwargs)  # type: ignore[misc]

    def sentences_from(self, data_samples: Sequence[BaseDataElement] | None) -> AbstractContextManager[None]:
        """A context in which the backbone has the sentences of the data samples.

        Raises:
            InputError: A data sample has no sentence, and the backbone has no `text`; or the backbone is not a
                `StandaloneDITViT`.
        """
        # The backbone may be wrapped (FSDP, torch.compile).
        backbone = next((part for part in self.backbone.modules() if isinstance(part, StandaloneDITViT)), None)
        if backbone is None:
            raise InputError(
                f'{type(self).__name__} passes sentences to its backbone, and '
                f'{type(self.backbone).__name__} takes none: set model.backbone.type=StandaloneDITViT'
            )
        sentences = None
        if data_samples is not None:
            has_sentences = any('text' in sample.metainfo for sample in data_samples)
            # Without any, a frozen text encoder keeps the features of its own text.
            if has_sentences or backbone.text is None:
                sentences = sentences_of(data_samples, backbone.text)
        return backbone.use_sentences(sentences)


@MODELS.register_module()
class InstructedEncoderDecoder(SentencesFromSamples, EncoderDecoder):
    """mmseg's `EncoderDecoder` with the sentence of each image for its `StandaloneDITViT`.

    Arguments as in the parent.
    """
