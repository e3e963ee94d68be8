"""SAM's mask decoder for batches in which every image has its own prompt, some of whose tokens are padding.

The parts are those of `segment_anything.modeling`, state-dict names included. Each image is paired only with its own
prompt (SAM repeats every image for every prompt, B² pairs for B), padding tokens are not attended to, attention is
fused, and only the mask that is used is computed. Shapes: B pairs, T tokens (IoU, masks, prompt), C width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...compat import import_sam_modeling
from ..layers import LayerNorm2d, attend

sam = import_sam_modeling()


class MaskedAttention(sam.transformer.Attention):  # type: ignore[name-defined]
    """SAM's decoder attention, fused, with a mask over the keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Queries (B, T_q, C) attend to keys and values (B, T_k, C) where `key_mask` (B, T_k) is True; (B, T_q, C)."""
        q, k, v = (
            self._separate_heads(projection(x), self.num_heads)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        return self.out_proj(self._recombine_heads(attend(q, k, v, q.shape[-1] ** -0.5, key_mask)))


class MaskedTwoWayBlock(sam.transformer.TwoWayAttentionBlock):  # type: ignore[name-defined]
    """SAM's two-way block: tokens among themselves, tokens to image, MLP, image to tokens."""

    def __init__(self, embed_dims: int, num_heads: int, mlp_dim: int, downsample_rate: int, first: bool) -> None:
        super().__init__(
            embed_dims, num_heads, mlp_dim, attention_downsample_rate=downsample_rate, skip_first_layer_pe=first
        )
        self.self_attn = MaskedAttention(embed_dims, num_heads)
        self.cross_attn_token_to_image = MaskedAttention(embed_dims, num_heads, downsample_rate)
        self.cross_attn_image_to_token = MaskedAttention(embed_dims, num_heads, downsample_rate)

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor, query_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, C) and image (B, H·W, C) after the block; `query_mask` is True at real tokens, (B, T)."""
        if self.skip_first_layer_pe:
            queries = self.self_attn(queries, queries, queries, query_mask)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries, query_mask)
        queries = self.norm1(queries)

        k = keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, k, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(k, queries + query_pe, queries, query_mask))
        return queries, keys


class MaskedTwoWayTransformer(nn.Module):
    """SAM's two-way transformer of any depth (DIT's Table 1 adds 2 or 4 layers to SAM's 2).

    With `embed_dims` C, cross-attention has the width C / `downsample_rate`.
    """

    def __init__(self, depth: int, embed_dims: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MaskedTwoWayBlock(embed_dims, num_heads, mlp_dim, downsample_rate, first=i == 0) for i in range(depth)
        )
        self.final_attn_token_to_image = MaskedAttention(embed_dims, num_heads, downsample_rate)
        self.norm_final_attn = nn.LayerNorm(embed_dims)

    def forward(
        self, image: Tensor, image_pe: Tensor, tokens: Tensor, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B, T, C) and image tokens (B, H·W, C) after all blocks.

        `image_pe`, (1, H·W, C), is the positional code of the image; `token_mask`, (B, T), is True at real tokens.
        """
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, image_pe, token_mask)
        attended = self.final_attn_token_to_image(queries + tokens, keys + image_pe, keys)
        return self.norm_final_attn(queries + attended), keys


class PairedMaskDecoder(sam.mask_decoder.MaskDecoder):  # type: ignore[name-defined]
    """`segment_anything`'s mask decoder over pairs of image and prompt, by default its single mask (mask token 0)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.output_upscaling[1] = LayerNorm2d(len(self.output_upscaling[1].weight))

    def forward(
        self,
        image: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        sparse_mask: Tensor | None = None,
        masks: slice = slice(1),
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            image: Image embeddings, (B, C, H, W).
            image_pe: Positional code of that grid, (C, H, W).
            sparse: Prompt tokens, (B, L, C).
            dense: Dense prompt, (B or 1, C, H or 1, W or 1).
            sparse_mask: True at real prompt tokens, (B, L).
            masks: Which of SAM's four masks are computed, N of them.

        Returns:
            Mask logits, (B, N, 4H, 4W), and all tokens after the transformer, the IoU token first, (B, 5 + L, C).
        """
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([outputs.expand(sparse.shape[0], -1, -1), sparse], 1)
        mask = None if sparse_mask is None else F.pad(sparse_mask, (len(outputs), 0), value=True)

        # Contiguous by token: otherwise the decoder takes a tenth longer on maps of 64 × 64, and rounds differently.
        source = (image + dense).flatten(2).transpose(1, 2).contiguous()
        tokens, source = self.transformer(source, image_pe.flatten(1).t()[None], tokens, mask)

        upscaled = self.output_upscaling(source.transpose(1, 2).unflatten(2, image.shape[2:]))
        networks = list(enumerate(self.output_hypernetworks_mlps, 1))[masks]
        weights = torch.stack([network(tokens[:, i]) for i, network in networks], 1)
        return torch.einsum('bnc,bchw->bnhw', weights, upscaled), tokens
