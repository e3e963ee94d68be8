"""The interface of a scheme: which text tokens each block of SAM's image encoder sees.

To add a scheme, register a subclass of `Instruction` that has `forward`, as layer_wise.py does, and set
`model.backbone.instruction=dict(type=NAME, text_dims=...)` in a config. `DITViT.instructed_block` calls it before every
block, and `InstructedBlock` attends to its tokens.
"""

from abc import ABCMeta, abstractmethod

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import InputError


class Instruction(BaseModule, metaclass=ABCMeta):
    """Makes the text tokens that join the visual tokens in every block of the image encoder.

    Shapes: B pairs, L text tokens, H × W visual tokens, D encoder width, D_t text width.

    Args:
        embed_dims: Encoder width D.
        depth: Number of encoder blocks that run.
        text_dims: Text width D_t. If it is not D, one shared Linear(D_t, D) comes first.
        dropout: Dropout on the text tokens for a block (released DIT: 0.1).
        init_cfg: As in mmengine.
    """

    keeps_outputs = False
    """Whether blocks update their text tokens, and `forward` gets those of the previous block."""

    def __init__(
        self, embed_dims: int, depth: int, text_dims: int, dropout: float = 0.1, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims, self.depth, self.text_dims = embed_dims, depth, text_dims
        self.text_projection = nn.Identity() if text_dims == embed_dims else nn.Linear(text_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)

    def project(self, tokens: Tensor) -> Tensor:
        """F_t: text features (B, L, D_t) at the encoder's width, (B, L, D).

        Raises:
            InputError: The features have another width than D_t.
        """
        if tokens.shape[-1] != self.text_dims:
            raise InputError(
                f'the text encoder gives features of width {tokens.shape[-1]}, the instruction expects '
                f'text_dims={self.text_dims}; set backbone.instruction.text_dims in the config'
            )
        return self.text_projection(tokens)

    @abstractmethod
    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        """Text tokens for one block.

        Args:
            layer: Index of the block, 0 … depth − 1.
            text: Projected text features F_t, (B, L, D).
            previous: The text tokens after block `layer − 1`, (B, L, D); None before block 0, and always None unless
                `keeps_outputs`.
            visual: Visual tokens that enter the block, (B, H, W, D).

        Returns:
            T_i, (B, L, D).
        """


def zero_linears(depth: int, embed_dims: int) -> nn.ModuleList:
    """The paper's P_i: a Linear(D, D) for each layer, zero at the start, so that the text has no effect at first."""
    linears = [nn.Linear(embed_dims, embed_dims) for _ in range(depth)]
    for linear in linears:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return nn.ModuleList(linears)
