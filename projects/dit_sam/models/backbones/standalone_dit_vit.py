"""The instructed encoder with its own text encoder, for models that pass only images to their backbone."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...errors import InputError
from ...structures import TextFeatures
from ..text_encoders.sentence_cache import traced_state
from .dit_vit import DITViT, Trunk


@MODELS.register_module()
class StandaloneDITViT(DITViT):
    """`DITViT` with its own text encoder, for the models of mmseg and mmdet, which do not handle text.

    Its text is the sentence of each image where the model passes them on (`SentencesFromSamples`,
    `InstructedEncoderDecoder`), otherwise `text`. A frozen text encoder encodes `text` once and not at every step.

    Args:
        text_encoder: Config of the text encoder.
        text: The instruction for all images, such as "road, car, person". None needs a model that passes sentences.
        **kwargs: As in `DITViT`.

    Raises:
        InputError: There is no instruction, so text would change nothing, or the text encoder reads images.
    """

    EXTRA_PREFIXES = (*DITViT.EXTRA_PREFIXES, 'text_encoder.')

    @torch.inference_mode(False)  # as in ReferringSegmentor
    def __init__(self, text_encoder: dict, text: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.instruction is None:
            raise InputError(
                'backbone.type=StandaloneDITViT has a text_encoder and no instruction, so its text '
                'would change nothing: set backbone.instruction, or backbone.type=SAMViT'
            )
        self.text_encoder = MODELS.build(dict(dict(_scope_='mmseg'), **text_encoder))
        if 'images' in inspect.signature(self.text_encoder.forward).parameters:
            raise InputError(
                f'backbone.text_encoder.type={text_encoder["type"]} reads images that a backbone does not get: use it '
                'in ReferringSegmentor'
            )
        self.text = text
        self._sentences: Sequence[str] | None = None
        self._model_passes_sentences = False
        # The features of `text` in training, with the state and the weights that they belong to.
        self._fixed: tuple[tuple, TextFeatures, list[Tensor]] | None = None

    def train(self, mode: bool = True) -> 'StandaloneDITViT':
        """As in `DITViT`; the text encoder of a frozen image encoder may still train."""
        super().train(mode)
        self.text_encoder.train(mode)
        self._fixed = None
        return self

    @contextmanager
    def use_sentences(self, sentences: Sequence[str] | None) -> Iterator[None]:
        """Within the context, use these sentences, one for each image; None means `text`, or no text without it."""
        before = self._sentences, self._model_passes_sentences
        self._sentences, self._model_passes_sentences = sentences, True
        try:
            yield
        finally:
            self._sentences, self._model_passes_sentences = before

    def forward(
        self, x: Tensor, text: TextFeatures | None = None, image_index: Tensor | None = None, trunk: Trunk | None = None
    ) -> tuple[Tensor, ...]:
        """As in `DITViT`, with its own text where none is given.

        Raises:
            InputError: As in `DITViT`; or there is no `text`, and the model does not pass on sentences.
        """
        if text is None:
            text = self._own_text(len(x if image_index is None else image_index))
        return super().forward(x, text, image_index, trunk)

    def _own_text(self, number: int) -> TextFeatures | None:
        if self._sentences is not None:
            return self.text_encoder(self._sentences)
        if self.text is None:
            if not self._model_passes_sentences:
                # Such a model may have sentences in its data samples, which no backbone sees.
                raise InputError(
                    'StandaloneDITViT has no text, and its model passes no sentences on: set backbone.text, '
                    'or model.type=InstructedEncoderDecoder (in other models, add the mixin SentencesFromSamples), or '
                    'backbone.type=SAMViT for no text'
                )
            return None
        trains = any(parameter.requires_grad for parameter in self.text_encoder.parameters())
        once = self.text_encoder([self.text]) if trains else self._features_of_fixed_text()
        return TextFeatures(once.tokens.expand(number, -1, -1), once.mask.expand(number, -1))

    # A step of a training may come next, which cannot use tensors of inference mode.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _features_of_fixed_text(self) -> TextFeatures:
        """Features of `text` by frozen weights.

        The text encoder's own cache reads some of the weights at each call, for which the host waits. In a training
        nothing writes to frozen weights without a trace; averaged weights are swapped in for a validation only.
        """
        weights = [weight.detach() for weight in self.text_encoder.parameters()]
        if not self.training or self.text_encoder.training or any(weight.is_inference() for weight in weights):
            return self.text_encoder([self.text])
        state = (self.text, traced_state(self.text_encoder))
        if self._fixed is None or self._fixed[0] != state:
            # With the weights, so that no others get their addresses.
            self._fixed = state, self.text_encoder([self.text]), weights
        return self._fixed[1]
