"""Dynamic + static schemes: learned tokens are added to the text tokens (DIT, Table 2)."""

from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...errors import InputError
from .base import Instruction, zero_linear


class StaticInstruction(Instruction):
    """Learned tokens S, one for each position in the sentence; a sentence of n tokens uses the first n.

    They start at zero, so that each scheme begins as without them. As they are added to the text, they learn from the
    first step on. Dropout acts on the text, not on S.

    Args:
        num_layers: Number of blocks with their own tokens, which are counted from the first one with text.
        max_length: Positions L in a sentence; must be the text encoder's `max_length`.
        **kwargs: As in `Instruction`.
    """

    def __init__(self, num_layers: int, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # E-DIT that starts at the last block adds none; an empty parameter would never get a gradient.
        self.static_tokens = nn.Parameter(
            torch.zeros(num_layers, max_length, self.embed_dims), requires_grad=num_layers > 0
        )

    def project(self, tokens: Tensor) -> Tensor:
        """As in `Instruction`.

        Raises:
            InputError: As there, or the text is longer than L.
        """
        length, max_length = tokens.shape[1], self.static_tokens.shape[1]
        if length > max_length:
            raise InputError(
                f'the text encoder gives {length} tokens, the instruction has max_length={max_length} '
                'static ones; set backbone.instruction.max_length to text_encoder.max_length'
            )
        return super().project(tokens)

    def add_static(self, tokens: Tensor, index: int) -> Tensor:
        """Tokens (B, n, D) with the first n of S_index added."""
        return tokens + self.static_tokens[index, : tokens.shape[1]]


@MODELS.register_module()
class EndToEndStaticInstruction(StaticInstruction):
    """E-DIT, dynamic + static: every block passes its text tokens on, and learned ones are added to them.

    `T_0 = P_0(F_t)`, then `T_i = T'_{i−1} + S_{i−1}`, where `T'_{i−1}` is `T_{i−1}` after block i − 1. P_0
    starts at zero, as in E-DIT.

    Args:
        max_length: See `StaticInstruction`.
        **kwargs: As in `Instruction`.
    """

    keeps_outputs = True

    def __init__(self, max_length: int = 20, **kwargs: Any) -> None:
        super().__init__(num_layers=kwargs['depth'] - kwargs.get('start', 0) - 1, max_length=max_length, **kwargs)
        self.projection = zero_linear(self.embed_dims)

    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        if previous is None:
            return self.dropout(self.projection(text))
        return self.add_static(previous, layer - self.start - 1)


@MODELS.register_module()
class LayerWiseStaticInstruction(StaticInstruction):
    """L-DIT, dynamic + static: T_i = F_t + S_i. There is no P_i, so the text enters at full size from the first step.

    Args:
        max_length: See `StaticInstruction`.
        **kwargs: As in `Instruction`.
    """

    def __init__(self, max_length: int = 20, **kwargs: Any) -> None:
        super().__init__(num_layers=kwargs['depth'] - kwargs.get('start', 0), max_length=max_length, **kwargs)

    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        return self.add_static(self.dropout(text), layer - self.start)
