"""One pre-norm transformer block of SAM's image encoder, with text tokens beside the visual ones."""

from torch import Tensor, nn

from .attention import InstructedAttention
from .mlp import MLP


class InstructedBlock(nn.Module):
    """Attention and MLP over visual tokens (B, H, W, D) and, where given, text tokens (B, L, D).

    Without text it is `segment_anything.modeling.image_encoder.Block`, state-dict names included.

    Args:
        embed_dims: Width D.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over D.
        rel_pos_size: See `InstructedAttention`.
        window_size: See `InstructedAttention`.
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
        """Arguments and results as in `InstructedAttention.forward`."""
        attended, attended_text = self.attn(x, text, text_mask, keep_text, self.norm1)
        x = x + attended
        x = x + self.mlp(x, self.norm2)
        if not keep_text:
            return x, None
        # In the type of the visual tokens, which autocast leaves in float32.
        text = text.to(x.dtype) + attended_text
        return x, text + self.mlp(text, self.norm2)
