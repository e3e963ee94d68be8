"""L-DIT by cross-attention: before every block the text attends to the image (DIT, Table 4)."""

from functools import partial
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn

from ...compat import import_sam_modeling
from ...errors import InputError
from ..layers import attend
from .base import Instruction


class CrossAttentionLayer(nn.Module):
    """Post-norm layers LN(x + MHA(q = x, k = v = V)), and with `ffn_dims` LN(x + FFN(x)); V is the image or its LN.

    Args:
        embed_dims: Width D of text and image.
        attn_dims: Width of queries and keys, all heads together.
        num_heads: Attention heads.
        ffn_dims: Hidden width of the FFN; 0 leaves it out.
        dropout: Dropout on the outputs of attention and FFN.
        norm_visual: Whether V is LN(image).
    """

    def __init__(
        self, embed_dims: int, attn_dims: int, num_heads: int, ffn_dims: int, dropout: float, norm_visual: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_visual = nn.LayerNorm(embed_dims) if norm_visual else nn.Identity()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(embed_dims, attn_dims) for _ in range(3))
        self.out_proj = nn.Linear(attn_dims, embed_dims)
        self.dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(embed_dims) for _ in range(2 if ffn_dims else 1))
        self.ffn = import_sam_modeling().common.MLPBlock(embed_dims, ffn_dims) if ffn_dims else None

    def forward(self, text: Tensor, visual: Tensor) -> Tensor:
        """Text (B, L, D) after attending to visual tokens (B, N, D); (B, L, D)."""
        image = self.norm_visual(visual)
        q, k, v = (
            projection(tokens).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, L or N, C)
            for projection, tokens in ((self.q_proj, text), (self.k_proj, image), (self.v_proj, image))
        )
        seen = attend(q, k, v, q.shape[-1] ** -0.5).transpose(1, 2).flatten(2)
        # The sum is in the type of the visual tokens, which autocast leaves in float32.
        text = self.norms[0](text.to(visual.dtype) + self.dropout(self.out_proj(seen)))
        return text if self.ffn is None else self.norms[1](text + self.dropout(self.ffn(text)))


@MODELS.register_module()
class CrossAttentionInstruction(Instruction):
    """L-DIT by cross-attention: T_i = LN(F_t + MHA(q = F_t, k = v = V_i)), V_i being the visual tokens before block i.

    With `ffn` it continues by T_i = LN(x + FFN(x)). Every layer has its own weights, and blocks do not update their
    text tokens. There is no P_i that starts at zero, so the text enters at full size from the first step on.

    Args:
        ffn: Whether the FFN follows.
        attn_dims: Width of queries and keys. With 512 a layer of ViT-B has 4 · 768 · 512 = 1.6 M weights, where L-DIT's
            P_i has 768² = 0.6 M. The paper gives no sizes; this one, the heads and the FFN's width are those of the
            released `image_encoder_cross_attention_FFN.py`, which adds F_t and an LN once more behind the FFN.
        num_heads: Attention heads.
        ffn_dims: Hidden width of the FFN.
        norm_visual: Whether k = v = LN(V_i), each layer with its own LN. No LN bounds V_i, the residual stream, and
            with this one the scheme may learn sooner (docs/reproduction.md).
        **kwargs: As in `Instruction`. Dropout acts on the outputs of attention and FFN, before the sum.

    Raises:
        InputError: `num_heads` does not divide `attn_dims`.
    """

    def __init__(
        self,
        ffn: bool = False,
        attn_dims: int = 512,
        num_heads: int = 8,
        ffn_dims: int = 2048,
        norm_visual: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if attn_dims % num_heads:
            raise InputError(
                f'num_heads={num_heads} does not divide attn_dims={attn_dims}; change one of them in '
                'backbone.instruction'
            )
        sizes = (self.embed_dims, attn_dims, num_heads, ffn_dims if ffn else 0, self.dropout.p, norm_visual)
        self.layers = self.for_blocks(partial(CrossAttentionLayer, *sizes))

    def forward(self, layer: int, text: Tensor, previous: Tensor | None, visual: Tensor) -> Tensor:
        return self.layers[str(layer)](text, visual.flatten(1, 2))
