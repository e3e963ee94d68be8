"""Decomposed relative position of MViTv2 as SAM uses it (`segment_anything/modeling/image_encoder.py`).

The attention logit of query (y, x) and key (v, u) gets r_h[y - v]·q + r_w[x - u]·q. Shapes: B windows or images,
M heads, H × W tokens, C channels a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .resize import cached_matrix, without_autocast


def relative_position_table(rel_pos: Tensor, size: int) -> Tensor:
    """Embedding of every (query, key) distance along one axis.

    Args:
        rel_pos: Learned embeddings, one for each distance, (2 · pretrained size − 1, C).
        size: Number of tokens along the axis; at another size than the pretrained one the embeddings are resized
            linearly.

    Returns:
        (size, size, C), indexed by query and key.
    """
    # Functions cannot be traced, and counters of FLOPs trace.
    if torch.is_grad_enabled() and rel_pos.requires_grad and not torch.jit.is_tracing():
        return _Table.apply(rel_pos, size)
    return _table(rel_pos, size)


class _Table(torch.autograd.Function):
    """`_table` with a deterministic backward pass, a product with a fixed matrix as in resize.py."""

    @staticmethod
    def forward(ctx: Any, rel_pos: Tensor, size: int) -> Tensor:
        ctx.length, ctx.size = len(rel_pos), size
        return _table(rel_pos, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        with without_autocast(grad.device):
            matrix = cached_matrix(_table_matrix, ctx.length, ctx.size, like=grad)
            return matrix.flatten(0, 1).t() @ grad.flatten(0, 1), None


def _table(rel_pos: Tensor, size: int) -> Tensor:
    distances = 2 * size - 1
    if rel_pos.shape[0] != distances:
        rel_pos = F.interpolate(rel_pos.t()[None], size=distances, mode='linear')[0].t()
    position = torch.arange(size, device=rel_pos.device)
    return rel_pos[position[:, None] - position[None, :] + size - 1]


def _table_matrix(length: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The share of each embedding in each entry of the table, (size, size, length)."""
    return _table(torch.eye(length, device=device, dtype=dtype), size)


def relative_position_terms(q: Tensor, table_h: Tensor, table_w: Tensor) -> tuple[Tensor, Tensor]:
    """The terms of relative position in the logits of every query, one for each key row and one for each key column.

    Args:
        q: Unscaled queries on their grid, (B, M, H, W, C).
        table_h: Embeddings of the distances between rows, (H, H, C).
        table_w: Embeddings of the distances between columns, (W, W, C).

    Returns:
        Terms by key row, (B, M, H, W, H), and by key column, (B, M, H, W, W).
    """
    return torch.einsum('bmhwc,hkc->bmhwk', q, table_h), torch.einsum('bmhwc,wkc->bmhwk', q, table_w)
