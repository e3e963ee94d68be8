"""BEiT-3 (arXiv 2208.10442): one transformer over an image and a sentence, with an expert for each of the two.

State-dict names are those of BEiT-3's own checkpoints, without the heads of its pre-training. Shapes: B pairs of image
and sentence, V visual tokens (the class token first), L text tokens, D width, M heads.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

from ...errors import InputError
from ..layers import attend

# Rows at the beginning of both position tables that are never used.
UNUSED_POSITIONS = 2


class Experts(nn.Module):
    """Two modules of one shape: A for visual tokens, B for text tokens.

    Args:
        make: Makes one of them.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.A, self.B = make(), make()

    def forward(self, x: Tensor, visual: int) -> Tensor:
        """Tokens (B, V + L, D), the first `visual` of which go through A and the others through B."""
        if visual == x.shape[1]:
            return self.A(x)
        if not visual:
            return self.B(x)
        return torch.cat([self.A(x[:, :visual]), self.B(x[:, visual:])], 1)


class FeedForward(nn.Module):
    """Linear, GELU, norm, linear: the inner norm is Magneto's (arXiv 2210.06423)."""

    def __init__(self, embed_dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.ffn_layernorm = nn.LayerNorm(hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        hidden = self.fc1(x)
        return self.fc2(self.ffn_layernorm(F.gelu(hidden.float()).to(hidden)))


class SelfAttention(nn.Module):
    """Attention over all tokens of both modalities; projections and the norm of the result have experts."""

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise InputError(f'num_heads={num_heads} does not divide embed_dims={embed_dims}')
        self.num_heads = num_heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (
            Experts(lambda: nn.Linear(embed_dims, embed_dims)) for _ in range(4)
        )
        self.inner_attn_ln = Experts(lambda: nn.LayerNorm(embed_dims))

    def forward(self, x: Tensor, visual: int, mask: Tensor | None) -> Tensor:
        """Tokens (B, N, D), of which those attend and are attended to where `mask` (B, N) is True."""
        q, k, v = (
            projection(x, visual).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = attend(q, k, v, q.shape[-1] ** -0.5, mask)
        return self.out_proj(self.inner_attn_ln(out.transpose(1, 2).flatten(2), visual), visual)


class Layer(nn.Module):
    """Pre-norm attention and feed-forward network."""

    def __init__(self, embed_dims: int, num_heads: int, hidden_dims: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(embed_dims, num_heads)
        self.self_attn_layer_norm = Experts(lambda: nn.LayerNorm(embed_dims))
        self.ffn = Experts(lambda: FeedForward(embed_dims, hidden_dims))
        self.final_layer_norm = Experts(lambda: nn.LayerNorm(embed_dims))

    def forward(self, x: Tensor, visual: int, mask: Tensor | None) -> Tensor:
        """Arguments as in `SelfAttention.forward`."""
        x = x + self.self_attn(self.self_attn_layer_norm(x, visual), visual, mask)
        return x + self.ffn(self.final_layer_norm(x, visual), visual)


class VisionEmbedding(nn.Module):
    """Patches of an image after a class token; `mask_token` is kept for BEiT-3's checkpoints and unused."""

    def __init__(self, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims), requires_grad=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.proj = nn.Conv2d(3, embed_dims, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to tokens (B, V, D)."""
        patches = self.proj(images).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)


class Encoder(nn.Module):
    """Position tables, layers and the final norm; names as in the checkpoints.

    Args:
        visual: Number of visual tokens, with the class token.
        max_positions: Rows of the text's position table.
    """

    def __init__(
        self, embed_dims: int, depth: int, num_heads: int, hidden_dims: int, visual: int, max_positions: int
    ) -> None:
        super().__init__()
        self.embed_positions = nn.ModuleDict(
            dict(A=nn.Embedding(visual + UNUSED_POSITIONS, embed_dims), B=nn.Embedding(max_positions, embed_dims))
        )
        self.layers = nn.ModuleList(Layer(embed_dims, num_heads, hidden_dims) for _ in range(depth))
        self.layer_norm = Experts(lambda: nn.LayerNorm(embed_dims))

    def positions(self, expert: str, tokens: int) -> Tensor:
        """Positions of the first tokens of a modality, (tokens, D)."""
        table = cast(nn.Embedding, self.embed_positions[expert])
        return table.weight[UNUSED_POSITIONS : UNUSED_POSITIONS + tokens]


class BEiT3(nn.Module):
    """BEiT-3 without the heads of its pre-training.

    Args:
        embed_dims: Width D.
        depth: Layers.
        num_heads: Heads M.
        hidden_dims: Hidden width of the feed-forward networks.
        img_size: Side of the image, a multiple of `patch_size`.
        patch_size: Side of a patch.
        vocab_size: Rows of the text table.
        max_positions: Rows of the text's position table; a sentence may have two tokens less.
        with_cp: Whether activations are recomputed in the backward pass to save memory.
    """

    def __init__(
        self,
        embed_dims: int,
        depth: int,
        num_heads: int,
        hidden_dims: int,
        img_size: int = 224,
        patch_size: int = 16,
        vocab_size: int = 64010,
        max_positions: int = 1024,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if img_size % patch_size:
            raise InputError(f'text_encoder.img_size={img_size} is not a multiple of patch_size={patch_size}')
        self.embed_dims, self.img_size, self.with_cp = embed_dims, img_size, with_cp
        self.text_embed = nn.Embedding(vocab_size, embed_dims)
        self.vision_embed = VisionEmbedding(embed_dims, patch_size)
        visual = 1 + (img_size // patch_size) ** 2
        self.encoder = Encoder(embed_dims, depth, num_heads, hidden_dims, visual, max_positions)

    def forward(self, images: Tensor | None, ids: Tensor | None = None, text_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            images: (B, 3, img_size, img_size); None encodes the text alone.
            ids: Ids of the text tokens, (B, L); None encodes the images alone.
            text_mask: True at real text tokens, False at padding, (B, L). None takes all as real.

        Returns:
            The tokens after the final norm, (B, V + L, D).
        """
        x, visual, mask = self.embed(images, ids, text_mask)
        for layer in self.encoder.layers:
            if self.with_cp and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(layer, x, visual, mask, use_reentrant=False)
            else:
                x = layer(x, visual, mask)
        return self.encoder.layer_norm(x, visual)

    def embed(
        self, images: Tensor | None, ids: Tensor | None, text_mask: Tensor | None
    ) -> tuple[Tensor, int, Tensor | None]:
        """The tokens before the first layer, (B, V + L, D), the number V, and the mask of all tokens, (B, V + L)."""
        parts, visual, mask = [], 0, text_mask
        if images is not None:
            tokens = self.vision_embed(images)
            visual = tokens.shape[1]
            parts.append(tokens + self.encoder.positions('A', visual))
        if ids is not None:
            tokens = self.text_embed(ids) + self.encoder.positions('B', ids.shape[1])
            if text_mask is not None:
                tokens = tokens * text_mask[..., None].to(tokens.dtype)
                mask = F.pad(text_mask, (visual, 0), value=True)
            parts.append(tokens)
        return torch.cat(parts, 1), visual, mask
