"""L-DIT: text enters every layer anew."""

from mmseg.registry import MODELS
from torch import Tensor

from .base import Instruction, zero_linears


@MODELS.register_module()
class LayerWiseInstruction(Instruction):
    """L-DIT (paper section 3.3): T_i = P_i(F_t); what block i makes of T_i is thrown away.

    Arguments as in `Instruction`.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.projections = zero_linears(self.depth, self.embed_dims)

    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        return self.dropout(self.projections[layer](text))
