"""SAM's attention with text tokens beside the visual ones (DIT, section 3.2).

Shapes: B images, M heads, C channels a head, D = M · C, H × W visual tokens, L text tokens, G windows an image.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .attend import MASKED, attend
from .relative_position import relative_position_terms
from .windows import pad_to_windows, window_partition, window_unpartition


class InstructedAttention(nn.Module):
    """Multi-head self-attention over [text; visual] tokens with SAM's relative position among the visual ones.

    Pairs with a text token have bias 0. The bias is folded into extra head channels, so that no (H·W)² tensor exists:
    q·k·s + r_h[q, h_k] + r_w[q, w_k] = [s·q, r_h(q), r_w(q)] · [k, onehot(h_k), onehot(w_k)].
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
        self.scale = (embed_dims // num_heads)**-0.5
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * rel_pos_size - 1, embed_dims // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * rel_pos_size - 1, embed_dims // num_heads))

    def forward(self,
                x: Tensor,
                text: Tensor | None = None,
                text_mask: Tensor | None = None,
                keep_text: bool = False) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            x: Visual tokens, (B, H, W, D).
            text: Text tokens, (B, L, D).
            text_mask: True at real text tokens, (B, L); None attends to all.
            keep_text: Whether the text tokens attend too, and not only are attended to.

        Returns:
            Visual tokens (B, H, W, D), and text tokens (B, L, D) where they are kept.
        """
        if text is None:
            return self.proj(self._attend_visual(x, self.qkv(x))), None
        qkv = self.qkv(x)
        text_q, text_k, text_v = self._text_heads(text, keep_text)
        out = self.proj(self._attend_visual(x, qkv, text_k, text_v, text_mask))
        if not keep_text:
            return out, None
        return out, self.proj(self._attend_text(qkv, text_q, text_k, text_v, text_mask))

    def _text_heads(self, text: Tensor, with_queries: bool) -> tuple[Tensor | None, Tensor, Tensor]:
        """Queries (only where wanted), keys and values of the text tokens, each (B, M, L, C)."""
        count = 3 if with_queries else 2
        first = (3 - count) * self.proj.in_features
        heads = F.linear(text, self.qkv.weight[first:], self.qkv.bias[first:])
        heads = heads.unflatten(-1, (count, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return heads if with_queries else (None, *heads)

    def _attend_visual(self,
                       x: Tensor,
                       qkv: Tensor,
                       text_k: Tensor | None = None,
                       text_v: Tensor | None = None,
                       text_mask: Tensor | None = None) -> Tensor:
        """What the visual tokens gather from the text and from their window; (B, H, W, D)."""
        batch, size = x.shape[0], (x.shape[1], x.shape[2])
        if self.window_size:
            qkv = window_partition(self._pad_projected(qkv), self.window_size)
        # (G·B, h, w, 3D) -> 3 × (G·B, M, h, w, C)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 4, 1, 2, 5).unbind()
        if text_k is not None and self.window_size:
            windows = qkv.shape[0] // batch
            text_k, text_v = text_k.repeat_interleave(windows, 0), text_v.repeat_interleave(windows, 0)
            text_mask = None if text_mask is None else text_mask.repeat_interleave(windows, 0)
        out = self._biased_attention(q, k, v, text_k, text_v, text_mask)
        return window_unpartition(out, size) if self.window_size else out

    def _pad_projected(self, qkv: Tensor) -> Tensor:
        """Pad projected tokens to whole windows.

        SAM pads with zeros before the projection, which leaves the projection's bias in the padded places.
        """
        padded = pad_to_windows(qkv, self.window_size)
        if padded.shape == qkv.shape:
            return qkv
        inside = pad_to_windows(qkv.new_ones(1, *qkv.shape[1:3], 1), self.window_size).bool()
        return torch.where(inside, padded, self.qkv.bias.to(qkv.dtype))

    def _biased_attention(self, q: Tensor, k: Tensor, v: Tensor, text_k: Tensor | None, text_v: Tensor | None,
                          text_mask: Tensor | None) -> Tensor:
        """Attention of (B, M, h, w, C) queries over text and visual keys; (B, h, w, M·C)."""
        height, width = q.shape[2:4]
        rows, columns = relative_position_terms(q, self.rel_pos_h, self.rel_pos_w)
        onehot = torch.cat([
            torch.eye(height, device=q.device, dtype=q.dtype)[:, None].expand(-1, width, -1),
            torch.eye(width, device=q.device, dtype=q.dtype)[None].expand(height, -1, -1)
        ], -1).expand(*k.shape[:2], -1, -1, -1)
        q = torch.cat([q * self.scale, rows, columns], -1).flatten(2, 3)
        k, v = torch.cat([k, onehot], -1).flatten(2, 3), v.flatten(2, 3)
        if text_k is not None:
            k = torch.cat([F.pad(text_k, (0, height + width)), k], 2)
            v = torch.cat([text_v, v], 2)
        if text_mask is not None:
            # One more channel: 1 in every query, MASKED in the keys of padding tokens.
            masked = torch.zeros(k.shape[0], 1, k.shape[2], 1, device=k.device, dtype=k.dtype)
            masked[:, 0, :text_mask.shape[1], 0].masked_fill_(~text_mask, MASKED)
            q, k = F.pad(q, (0, 1), value=1.), torch.cat([k, masked.expand(-1, k.shape[1], -1, -1)], -1)
        return attend(q, k, v).unflatten(2, (height, width)).permute(0, 2, 3, 1, 4).flatten(3)

    def _attend_text(self, qkv: Tensor, text_q: Tensor, text_k: Tensor, text_v: Tensor,
                     text_mask: Tensor | None) -> Tensor:
        """What the text tokens gather from all text and all visual tokens, without bias; (B, L, D).

        There is one set of text queries and not one a window, so the outcome does not depend on how windows are cut.
        """
        _, k, v = qkv.flatten(1, 2).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mask = None if text_mask is None else F.pad(text_mask, (0, k.shape[2]), value=True)
        out = attend(text_q, torch.cat([text_k, k], 2), torch.cat([text_v, v], 2), self.scale, mask)
        return out.transpose(1, 2).flatten(2)
