"""One pre-norm transformer block of SAM's image encoder, with text tokens beside the visual ones."""
from torch import Tensor, nn

from ...compat import import_sam_modeling
from .attention import InstructedAttention


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
        normed_text = None if text is None else self.norm1(text)
        attended, attended_text = self.attn(self.norm1(x), normed_text, text_mask, keep_text)
        x = self._feed_forward(x + attended)
        return x, self._feed_forward(text + attended_text) if keep_text else None

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.mlp(self.norm2(tokens))
