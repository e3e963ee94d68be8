"""SAM's attention over text and visual tokens (DIT, section 3.2).

Shapes: B images, M heads, C channels a head, D = M · C, H × W visual tokens, L text tokens, G windows or images.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .attend import SHORT, attend, on_cpu, split_heads
from .chunked_cpu import chunked_attention
from .derived_cache import DerivedCache
from .linear import Linear, checkpointed_linear
from .relative_position import relative_position_table
from .sdpa_relpos import sdpa_attention
from .windows import pad_to_windows, window_partition, window_unpartition


class InstructedAttention(nn.Module):
    """Multi-head self-attention over [text; visual] tokens with SAM's relative position among the visual ones.

    Pairs with a text token have bias 0. No (H·W)² tensor is kept: CPUs use `chunked_attention`, other devices
    `sdpa_attention`. State-dict names, and the result without text, are those of
    `segment_anything.modeling.image_encoder.Attention`.

    Args:
        embed_dims: Width D.
        num_heads: Heads M.
        rel_pos_size: Grid or window size of the relative-position tables; they are resized for other sizes.
        window_size: Side of the attention windows; 0 attends globally. Every window sees all text.
    """

    def __init__(self, embed_dims: int, num_heads: int, rel_pos_size: int, window_size: int = 0) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise InputError(f'num_heads={num_heads} does not divide embed_dims={embed_dims}')
        self.num_heads = num_heads
        self.window_size = window_size
        self.scale = (embed_dims // num_heads) ** -0.5
        self.qkv = Linear(embed_dims, 3 * embed_dims)
        self.proj = Linear(embed_dims, embed_dims)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * rel_pos_size - 1, embed_dims // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * rel_pos_size - 1, embed_dims // num_heads))
        self._tables = (DerivedCache(relative_position_table), DerivedCache(relative_position_table))

    def clear_tables(self) -> None:
        """Forget the relative-position tables."""
        for cache in self._tables:
            cache.clear()

    def train(self, mode: bool = True) -> 'InstructedAttention':
        self.clear_tables()
        return super().train(mode)

    def forward(
        self,
        x: Tensor,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        keep_text: bool = False,
        norm: Callable[[Tensor], Tensor] = nn.Identity(),
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results as in `InstructedBlock.forward`; `norm` is applied to all tokens first."""
        qkv = checkpointed_linear(self.qkv, norm, x)
        if text is None:
            return self.proj(self._attend_visual(qkv)), None
        # If the text does not attend, its queries are unused, which wastes 1 % of a linear layer's time.
        text_q, text_k, text_v = split_heads(self.qkv(norm(text)), self.num_heads)
        out = self.proj(self._attend_visual(qkv, text_k, text_v, text_mask))
        if not keep_text:
            return out, None
        return out, self.proj(self._attend_text(qkv, text_q, text_k, text_v, text_mask))

    def _attend_visual(
        self, qkv: Tensor, text_k: Tensor | None = None, text_v: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Tensor:
        """Visual tokens attend to the text and to their window; (B, H, W, D)."""
        size = (qkv.shape[1], qkv.shape[2])
        if self.window_size:
            qkv = window_partition(self._pad_projected(qkv), self.window_size)
        height, width = qkv.shape[1:3]
        table_h, table_w = self._tables[0](self.rel_pos_h, height), self._tables[1](self.rel_pos_w, width)
        # In 16 bits, a CPU adds short rows and columns slowly: 48 heads of 14 × 14 take 8 ms, with sdpa 2 ms.
        short = qkv.dtype.itemsize < 4 and height * width <= SHORT
        biased_attention = chunked_attention if on_cpu(qkv) and not short else sdpa_attention
        out = biased_attention(qkv, text_k, text_v, text_mask, table_h, table_w, self.num_heads, self.scale)
        return window_unpartition(out, size) if self.window_size else out

    def _pad_projected(self, qkv: Tensor) -> Tensor:
        """Pad projected tokens to whole windows.

        SAM pads with zeros before the projection, so padding tokens hold the bias of the projection.
        """
        padded = pad_to_windows(qkv, self.window_size)
        if padded.shape == qkv.shape:
            return qkv
        padded[:, qkv.shape[1] :] = padded[:, :, qkv.shape[2] :] = self.qkv.bias.to(qkv.dtype)
        return padded

    def _attend_text(
        self, qkv: Tensor, text_q: Tensor, text_k: Tensor, text_v: Tensor, text_mask: Tensor | None
    ) -> Tensor:
        """Text tokens attend to all text and all visual tokens, without bias; (B, L, D).

        The text attends once, not once per window, so the result does not depend on how windows are cut.
        """
        _, k, v = split_heads(qkv.flatten(1, 2), self.num_heads)
        mask = None if text_mask is None else F.pad(text_mask, (0, k.shape[2]), value=True)
        out = attend(text_q, torch.cat([text_k, k], 2), torch.cat([text_v, v], 2), self.scale, mask)
        return out.transpose(1, 2).flatten(2)
