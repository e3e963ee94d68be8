"""The transformer block of SAM's image encoder, which text enters as additional tokens (DIT, section 3.2).

Shapes: B images, H × W visual tokens, L text tokens, D encoder width.
"""

from collections.abc import Callable

from torch import Tensor, nn

from .attention import InstructedAttention
from .linear import Linear, checkpointed_linear


class InstructedBlock(nn.Module):
    """A pre-norm block over [text; visual] tokens: x + Attn(LN(x)), then x + MLP(LN(x)), with shared weights.

    Text enters here, as additional tokens: visual tokens attend to text and to each other. The text tokens themselves
    are updated only with `keep_text`. Without text this is `segment_anything`'s
    `modeling.image_encoder.Block`, whose state-dict names it has.

    Args:
        embed_dims: As in `InstructedAttention`.
        num_heads: As in `InstructedAttention`.
        rel_pos_size: As in `InstructedAttention`.
        mlp_ratio: Hidden width of the MLP over D.
        window_size: As in `InstructedAttention`.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, rel_pos_size: int, mlp_ratio: float = 4.0, window_size: int = 0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = InstructedAttention(embed_dims, num_heads, rel_pos_size, window_size)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = MLP(embed_dims, int(embed_dims * mlp_ratio))

    def forward(
        self, x: Tensor, text: Tensor | None = None, text_mask: Tensor | None = None, keep_text: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            x: Visual tokens, (B, H, W, D).
            text: Text tokens, (B, L, D), from an `Instruction`.
            text_mask: True at real text tokens, (B, L); None attends to all.
            keep_text: Whether the text tokens are updated too, for the next block.

        Returns:
            Visual tokens (B, H, W, D), and text tokens (B, L, D) if they are kept.
        """
        # The norms go into attention and MLP, which recompute them in the backward pass.
        attended, attended_text = self.attn(x, text, text_mask, keep_text, self.norm1)
        x = x + attended
        x = x + self.mlp(x, self.norm2)
        if text is None or not keep_text:
            return x, None
        # The result has the type of the visual tokens, which autocast leaves in float32.
        text = text.to(x.dtype) + attended_text
        return x, text + self.mlp(text, self.norm2)


class MLP(nn.Module):
    """`segment_anything.modeling.common.MLPBlock`, names included, which keeps less for the backward pass."""

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.lin1 = Linear(embed_dims, hidden_dims)
        self.lin2 = Linear(hidden_dims, embed_dims)
        self.act = nn.GELU()

    def forward(self, tokens: Tensor, norm: Callable[[Tensor], Tensor] = nn.Identity()) -> Tensor:
        """Lin2(GELU(Lin1(norm(tokens)))) of tokens (..., D); (..., D)."""
        return checkpointed_linear(self.lin2, self.act, checkpointed_linear(self.lin1, norm, tokens))
