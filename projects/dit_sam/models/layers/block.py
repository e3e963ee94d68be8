"""One pre-norm transformer block of SAM's image encoder, with text tokens beside the visual ones."""
from torch import Tensor, nn

from ...compat import import_sam_modeling
from .attention import InstructedAttention
from .recompute import linear_of


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

    def __init__(self,
                 embed_dims: int,
                 num_heads: int,
                 rel_pos_size: int,
                 mlp_ratio: float = 4.,
                 window_size: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = InstructedAttention(embed_dims, num_heads, rel_pos_size, window_size)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = import_sam_modeling().common.MLPBlock(embed_dims, int(embed_dims * mlp_ratio))

    def forward(self,
                x: Tensor,
                text: Tensor | None = None,
                text_mask: Tensor | None = None,
                keep_text: bool = False) -> tuple[Tensor, Tensor | None]:
        """Arguments and results as in `InstructedAttention.forward`."""
        attended, attended_text = self.attn(x, text, text_mask, keep_text, self.norm1)
        x = self._feed_forward(x + attended)
        return x, self._feed_forward(text + attended_text) if keep_text else None

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        """The tokens and what the MLP makes of them normed."""
        hidden = linear_of(self.mlp.lin1, self.norm2, tokens)
        return tokens + linear_of(self.mlp.lin2, self.mlp.act, hidden)
