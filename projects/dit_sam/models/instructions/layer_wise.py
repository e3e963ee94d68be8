"""L-DIT: the same text enters every layer."""

from functools import partial
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from .base import Instruction, zero_linear


@MODELS.register_module()
class LayerWiseInstruction(Instruction):
    """L-DIT (DIT, section 3.3): T_i = P_i(F_t); blocks do not update their text tokens.

    Arguments as in `Instruction`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.projections = self.for_blocks(partial(zero_linear, self.embed_dims))

    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        return self.dropout(self.projections[str(layer)](text))
