"""SAM's attention with text tokens beside the visual ones (DIT, section 3.2).

Shapes: B images, M heads, C channels a head, D = M · C, H × W visual tokens, L text tokens, G windows an image.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .attend import SHORT, attend, on_cpu
from .folded import folded_attention
from .linear import Linear
from .piecewise import piecewise_attention
from .recompute import linear_of
from .relative_position import relative_position_table
from .resize import DerivedCache
from .windows import pad_to_windows, window_partition, window_unpartition


class InstructedAttention(nn.Module):
    """Multi-head self-attention over [text; visual] tokens with SAM's relative position among the visual ones.

    Pairs with a text token have bias 0. No (H·W)² tensor is ever kept, on CPUs (`piecewise_attention`) or elsewhere
    (`folded_attention`).
    State-dict names and the result without text are those of `segment_anything.modeling.image_encoder.Attention`.

    Args:
        embed_dims: Width D.
        num_heads: Heads M.
        rel_pos_size: Grid or window size for which the relative-position tables are made; other sizes resize them.
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
        """Forget what was kept of the relative-position tables."""
        for kept in self._tables:
            kept.clear()

    def train(self, mode: bool = True) -> 'InstructedAttention':
        """As in `nn.Module`."""
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
        """
        Args:
            x: Visual tokens, (B, H, W, D).
            text: Text tokens, (B, L, D).
            text_mask: True at real text tokens, (B, L); None attends to all.
            keep_text: Whether the text tokens attend too, and not only are attended to.
            norm: What is done to all tokens first.

        Returns:
            Visual tokens (B, H, W, D), and text tokens (B, L, D) where they are kept.
        """
        qkv = linear_of(self.qkv, norm, x)
        if text is None:
            return self.proj(self._attend_visual(qkv)), None
        # Where the text does not attend its queries go unused: 1 % of a linear layer's time.
        text_q, text_k, text_v = self._heads(self.qkv(norm(text)))
        out = self.proj(self._attend_visual(qkv, text_k, text_v, text_mask))
        if not keep_text:
            return out, None
        return out, self.proj(self._attend_text(qkv, text_q, text_k, text_v, text_mask))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, M, N, C) in (B, N, 3D)."""
        return qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def _attend_visual(
        self, qkv: Tensor, text_k: Tensor | None = None, text_v: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Tensor:
        """What the visual tokens gather from the text and from their window; (B, H, W, D)."""
        size = (qkv.shape[1], qkv.shape[2])
        if self.window_size:
            qkv = window_partition(self._pad_projected(qkv), self.window_size)
        tables = [
            kept(table, length)
            for kept, table, length in zip(self._tables, (self.rel_pos_h, self.rel_pos_w), qkv.shape[1:3])
        ]
        # In 16 bits a CPU is slow to add rows and columns that are short: 8 ms for 48 heads of 14 × 14, folded 2 ms.
        short = qkv.dtype.itemsize < 4 and qkv.shape[1] * qkv.shape[2] <= SHORT
        biased_attention = piecewise_attention if on_cpu(qkv) and not short else folded_attention
        out = biased_attention(qkv, text_k, text_v, text_mask, *tables, self.num_heads, self.scale)
        return window_unpartition(out, size) if self.window_size else out

    def _pad_projected(self, qkv: Tensor) -> Tensor:
        """Pad projected tokens to whole windows.

        SAM pads with zeros before the projection, which leaves the projection's bias in the padded places.
        """
        padded = pad_to_windows(qkv, self.window_size)
        if padded.shape == qkv.shape:
            return qkv
        padded[:, qkv.shape[1] :] = padded[:, :, qkv.shape[2] :] = self.qkv.bias.to(qkv.dtype)
        return padded

    def _attend_text(
        self, qkv: Tensor, text_q: Tensor, text_k: Tensor, text_v: Tensor, text_mask: Tensor | None
    ) -> Tensor:
        """What the text tokens gather from all text and all visual tokens, without bias; (B, L, D).

        There is one set of text queries and not one a window, so the outcome does not depend on how windows are cut.
        """
        _, k, v = self._heads(qkv.flatten(1, 2))
        mask = None if text_mask is None else F.pad(text_mask, (0, k.shape[2]), value=True)
        out = attend(text_q, torch.cat([text_k, k], 2), torch.cat([text_v, v], 2), self.scale, mask)
        return out.transpose(1, 2).flatten(2)
