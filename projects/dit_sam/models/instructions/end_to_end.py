"""E-DIT: text enters once, at the encoder's input."""

from functools import partial
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from .base import Instruction, zero_linear


@MODELS.register_module()
class EndToEndInstruction(Instruction):
    """E-DIT (DIT, section 3.2): the text enters at the first block, and every block passes its text tokens on.

    `T_0 = P_0(F_t)`, then `T_i = P_i(T'_{i−1})`, where `T'_{i−1}` is `T_{i−1}` after block i − 1. With
    `start=k`, block k is the first. Arguments as in `Instruction`.
    """

    keeps_outputs = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.projections = self.for_blocks(partial(zero_linear, self.embed_dims))

    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        return self.dropout(self.projections[str(layer)](text if previous is None else previous))
