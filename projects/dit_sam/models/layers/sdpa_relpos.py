"""SAM's attention by PyTorch's fused kernels, on GPUs and in exported graphs.

Shapes: G windows or images, G / B of them for each of B texts; M heads; h × w queries and as many visual keys; L text
keys; C channels a head, D = M · C.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .attend import MASKED, attend, prepend_text, split_heads
from .relative_position import relative_position_terms


def sdpa_attention(
    qkv: Tensor,
    text_k: Tensor | None,
    text_v: Tensor | None,
    text_mask: Tensor | None,
    table_h: Tensor,
    table_w: Tensor,
    num_heads: int,
    scale: float,
) -> Tensor:
    """Visual tokens attend to the text and to each other; the bias of relative position is put into the heads.

    It takes and returns what `chunked_attention` does, without an (h·w)² tensor, by heads of C + h + w channels:

    q·k·s + r_h[q, h_k] + r_w[q, w_k] = [s·q, r_h(q), r_w(q)] · [k, onehot(h_k), onehot(w_k)].

    Softmax is invariant to subtracting c = r_h[q, 0] + r_w[q, 0] from all logits of a query. That frees the channels of
    the first row and column for the text: one holds c, which text keys multiply by −1, the other 1, which they multiply
    by their mask. So 64 channels and 32 × 32 tokens make 128, the widest heads of the fast kernels.

    In 16 bits the tables, which come in float32, are rounded last: after the subtraction, and after the division by s,
    which leaves s to the kernel and q as it is.
    """
    q, k, v = split_heads(qkv, num_heads)
    height, width = q.shape[2:4]
    tables = ((_relative_to_first(table) / scale).to(q.dtype) for table in (table_h, table_w))
    rows, columns = relative_position_terms(q, *tables)
    first = rows[..., :1] + columns[..., :1]
    q = torch.cat([q, rows[..., 1:], columns[..., 1:], first, torch.ones_like(first)], -1)
    position = torch.cat(
        [
            torch.eye(height, device=q.device, dtype=q.dtype)[:, None, 1:].expand(-1, width, -1),
            torch.eye(width, device=q.device, dtype=q.dtype)[None, :, 1:].expand(height, -1, -1),
        ],
        -1,
    )
    k = torch.cat([k, F.pad(position, (0, 2)).expand(*k.shape[:2], -1, -1, -1)], -1)
    if text_k is not None:
        masked = text_k.new_zeros(text_k.shape[0], 1, text_k.shape[2], 1)
        if text_mask is not None:
            masked = masked.masked_fill(~text_mask[:, None, :, None], MASKED)
        text_k = F.pad(text_k, (0, height + width - 2))
        one = text_k.new_ones(()).expand(*text_k.shape[:3], 1)
        text_k = torch.cat([text_k, -one, masked.expand_as(one)], -1)
    out = attend(q.flatten(2, 3), prepend_text(text_k, k), prepend_text(text_v, v), scale)
    return out.unflatten(2, (height, width)).permute(0, 2, 3, 1, 4).flatten(3)


def _relative_to_first(table: Tensor) -> Tensor:
    """A table of relative position (n, n, C), with the entry of the first key subtracted from those of the others."""
    return torch.cat([table[:, :1], table[:, 1:] - table[:, :1]], 1)
