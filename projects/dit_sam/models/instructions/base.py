"""The interface of a scheme: which text tokens each block of SAM's image encoder sees.

To add a scheme, register a subclass of `Instruction` that has `forward`, as layer_wise.py does, and set
`model.backbone.instruction=dict(type=NAME, text_dims=...)` in a config. `DITViT.instructed_block` calls it before every
block, and `InstructedBlock` attends to its tokens.
"""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable

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
        start: First block that sees text, the paper's 0. Blocks before it see the image alone and run once for an
            image, however many sentences it has; they have no weights here. The names of the others count from block 0.
        init_cfg: As in mmengine.

    Raises:
        InputError: `start` is not one of the blocks.
    """

    keeps_outputs = False
    """Whether blocks update their text tokens, and `forward` gets those of the previous block."""

    takes_mask = False
    """Whether `forward` also has an argument `mask`, (B, L), bool, True at real tokens.

    Padding has features too, so what mixes tokens, such as a mean over the words, must leave it out.
    """

    def __init__(
        self,
        embed_dims: int,
        depth: int,
        text_dims: int,
        dropout: float = 0.1,
        start: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if type(start) is not int or not 0 <= start < depth:
            raise InputError(f'backbone.instruction.start={start} must be 0 to {depth - 1}, one of the blocks that run')
        self.embed_dims, self.depth, self.text_dims, self.start = embed_dims, depth, text_dims, start
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

    def for_blocks(self, make: Callable[[], nn.Module]) -> nn.ModuleDict:
        """A module for each block that sees text, by the block's index as text."""
        return nn.ModuleDict({str(layer): make() for layer in range(self.start, self.depth)})

    @abstractmethod
    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor | None:
        """Text tokens for one block.

        Args:
            layer: Index of the block, start … depth − 1.
            text: Projected text features F_t, (B, L, D).
            previous: The text tokens after block `layer − 1`, (B, L, D); None before block `start`, and always None
                unless `keeps_outputs`.
            visual: Visual tokens that enter the block, (B, H, W, D).

        Returns:
            T_i, (B, L, D); None for no text in this block, after which `previous` is None.
        """


def zero_linear(embed_dims: int) -> nn.Linear:
    """The paper's P_i: a Linear(D, D), zero at the start, so that the words have no effect at first."""
    linear = nn.Linear(embed_dims, embed_dims)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
