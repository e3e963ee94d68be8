"""The MLP of the blocks of SAM's image encoder."""

from collections.abc import Callable

from torch import Tensor, nn

from .linear import Linear
from .recompute import linear_of


class MLP(nn.Module):
    """`segment_anything.modeling.common.MLPBlock`, names included, which keeps less for the backward pass.

    Args:
        embed_dims: Width D.
        hidden_dims: Hidden width.
    """

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.lin1 = Linear(embed_dims, hidden_dims)
        self.lin2 = Linear(hidden_dims, embed_dims)
        self.act = nn.GELU()

    def forward(self, tokens: Tensor, norm: Callable[[Tensor], Tensor] = nn.Identity()) -> Tensor:
        """What it makes of tokens (..., D) normed; (..., D)."""
        return linear_of(self.lin2, self.act, linear_of(self.lin1, norm, tokens))
