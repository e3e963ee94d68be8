"""The attention of SAM's image encoder on a CPU: in pieces that stay in the cache.

softmax(scale · q·kᵀ + r_h[q, row of k] + r_w[q, column of k]) · v, where text keys stand in front and have bias 0. Only
one piece of the probabilities exists at a time; the backward pass makes them anew, as flash attention does. The kernel
behind `F.scaled_dot_product_attention` takes 1.6 times as long in fp32 and twice as long in bf16 (ViT-B, 32 × 32 tokens
and 20 of text), as its heads are widened by the bias that is folded into them (`folded.py`).

Shapes: G windows or images, G / B of them for each of B texts; M heads; h × w queries and as many visual keys; L text
keys; K = L + h · w; C channels a head, D = M · C.
"""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from .attend import MASKED
from .heads import repeat_rows, split_heads, with_text
from .relative_position import relative_position_terms

# Logits in a piece, 8 MB in fp32. A quarter of them costs 10 % more, twice as many, which leave the cache, twice as
# much.
PIECE = 2**21


def piecewise_attention(
    qkv: Tensor,
    text_k: Tensor | None,
    text_v: Tensor | None,
    text_mask: Tensor | None,
    table_h: Tensor,
    table_w: Tensor,
    num_heads: int,
    scale: float,
) -> Tensor:
    """What visual tokens gather from the text and from each other.

    Args:
        qkv: Queries, keys and values of the visual tokens, (G, h, w, 3D).
        text_k: Keys of the text, (B, M, L, C).
        text_v: Values of the text, (B, M, L, C).
        text_mask: True where a text key may be attended to, (B, L).
        table_h: Relative position by rows, (h, h, C), see `relative_position_table`.
        table_w: Relative position by columns, (w, w, C).
        num_heads: Heads M.
        scale: Factor on q·kᵀ.

    Returns:
        (G, h, w, D).
    """
    arguments = (qkv, text_k, text_v, text_mask, table_h.to(qkv.dtype), table_w.to(qkv.dtype), num_heads)
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments[:-1] if x is not None):
        return _PiecewiseAttention.apply(*arguments, scale)
    return _attend(*_prepare(*arguments), scale)


class _PiecewiseAttention(torch.autograd.Function):
    """The same, which keeps nothing for its backward pass but its arguments."""

    @staticmethod
    def forward(ctx, *arguments):
        *tensors, ctx.num_heads, ctx.scale = arguments
        ctx.save_for_backward(*tensors)
        return _attend(*_prepare(*tensors, ctx.num_heads), ctx.scale)

    @staticmethod
    def backward(ctx, grad):
        # Asked for once: checkpointing recomputes them at each time of asking.
        qkv, text_k, text_v, _, table_h, table_w = saved = ctx.saved_tensors
        q, *others = _prepare(*saved, ctx.num_heads)
        grad_q, grad_k, grad_v, rows, columns = _attend_backward(
            grad.unflatten(-1, (ctx.num_heads, -1)).permute(0, 3, 1, 2, 4), q, *others, ctx.scale
        )
        grad_q += torch.einsum('bmhwk,hkc->bmhwc', rows, table_h)
        grad_q += torch.einsum('bmhwk,wkc->bmhwc', columns, table_w)
        grad_h = torch.einsum('bmhwk,bmhwc->hkc', rows, q)
        grad_w = torch.einsum('bmhwk,bmhwc->wkc', columns, q)
        grad_qkv = torch.empty_like(qkv)
        into_q, into_k, into_v = split_heads(grad_qkv, ctx.num_heads)
        into_q.copy_(grad_q)
        grad_text = (_part(grad_k, into_k, text_k), _part(grad_v, into_v, text_v))
        return grad_qkv, *grad_text, None, grad_h, grad_w, None, None


def _prepare(
    qkv: Tensor,
    text_k: Tensor | None,
    text_v: Tensor | None,
    text_mask: Tensor | None,
    table_h: Tensor,
    table_w: Tensor,
    num_heads: int,
) -> tuple[Tensor, ...]:
    """Queries (G, M, h, w, C); keys and values, the text's in front, (G, M, K, C); the terms of relative position; what
    is added to the logits of text keys, (G, 1, 1, L)."""
    q, k, v = split_heads(qkv, num_heads)
    words = 0 if text_k is None else text_k.shape[2]
    bias = qkv.new_zeros(len(qkv), 1, 1, words)
    if text_mask is not None:
        bias.masked_fill_(~repeat_rows(text_mask, len(qkv) // len(text_mask))[:, None, None], MASKED)
    return q, with_text(text_k, k), with_text(text_v, v), *relative_position_terms(q, table_h, table_w), bias


def _attend(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, bias: Tensor, scale: float) -> Tensor:
    """What the queries gather, (G, h, w, D)."""
    groups, heads, height, width, channels = q.shape
    out = q.new_empty(groups, height, width, heads, channels)
    gathered = out.permute(0, 3, 1, 2, 4)
    for keys, queries in _pieces(q, k):
        weights = _weights(q[queries], k[keys], rows[queries], columns[queries], bias[keys[:1]], scale)
        gathered[queries] = (weights @ v[keys].flatten(0, 1)).view(q[queries].shape)
    return out.flatten(3)


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, rows and columns by that of what the queries gather, (G, M, h, w, C).

    With p = softmax(s) and o = p·v: dv = pᵀ·do, dp = do·vᵀ, ds = p ∘ (dp − Σ p ∘ dp), dq = scale · ds·k,
    dk = scale · dsᵀ·q; rows and columns get the sums of ds over the keys of a row and of a column.
    """
    grad_q, grad_rows, grad_columns = (torch.empty_like(x) for x in (q, rows, columns))
    # Several pieces may add to the same keys: in float32 at least.
    grad_k, grad_v = (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
    for keys, queries in _pieces(q, k):
        weights = _weights(q[queries], k[keys], rows[queries], columns[queries], bias[keys[:1]], scale)
        do, grid = _flat(grad[queries]), q[queries].shape[:-1]
        grad_v[keys] += (weights.transpose(1, 2) @ do).view(v[keys].shape)
        ds = do @ v[keys].flatten(0, 1).transpose(1, 2)
        ds = torch._softmax_backward_data(ds, weights, -1, ds.dtype)
        grad_q[queries] = (ds @ k[keys].flatten(0, 1)).mul_(scale).view(*grid, -1)
        grad_k[keys] += (ds.transpose(1, 2) @ _flat(q[queries])).mul_(scale).view(k[keys].shape)
        ds = ds[..., bias.shape[-1] :].unflatten(-1, q.shape[2:4])
        grad_rows[queries] = ds.sum(-1).view(*grid, -1)
        grad_columns[queries] = ds.sum(-2).view(*grid, -1)
    return grad_q, grad_k, grad_v, grad_rows, grad_columns


def _weights(q: Tensor, k: Tensor, rows: Tensor, columns: Tensor, bias: Tensor, scale: float) -> Tensor:
    """The softmax of one piece, g groups, m heads and r rows of queries: (g · m, r · w, K)."""
    shape, words = (*q.shape[:2], q.shape[2] * q.shape[3]), bias.shape[-1]
    logits = q.new_empty(*shape, k.shape[2])
    logits[..., :words] = bias
    visual = logits[..., words:].unflatten(-1, (rows.shape[-1], columns.shape[-1]))
    visual.copy_(rows.reshape(*shape, -1, 1)).add_(columns.reshape(*shape, 1, -1))
    return logits.flatten(0, 1).baddbmm_(_flat(q), k.flatten(0, 1).transpose(1, 2), alpha=scale).softmax(-1)


def _flat(x: Tensor) -> Tensor:
    """(g, m, r, w, C) as (g · m, r · w, C)."""
    return x.flatten(0, 1).flatten(1, 2)


def _part(grad: Tensor, visual: Tensor, text: Tensor | None) -> Tensor | None:
    """Put the gradient of keys or values (G, M, K, C) into its visual part (G, M, h, w, C); the text's (B, M, L, C)."""
    words = 0 if text is None else text.shape[2]
    visual.copy_(grad[:, :, words:].view(visual.shape))
    return None if text is None else grad[:, :, :words].unflatten(0, (len(text), -1)).sum(1).to(text.dtype)


def _pieces(q: Tensor, k: Tensor) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices of keys, by group and head, and of queries, by group, head and row, with at most `PIECE` logits where one
    row of queries has no more."""
    groups, heads, height, width = q.shape[:4]
    row = width * k.shape[2]
    rows = _at_most(PIECE // row, height)
    heads_at_once = _at_most(PIECE // (rows * row), heads)
    groups_at_once = _at_most(PIECE // (heads_at_once * rows * row), groups)
    for group, head, first in product(
        range(0, groups, groups_at_once), range(0, heads, heads_at_once), range(0, height, rows)
    ):
        keys = (slice(group, group + groups_at_once), slice(head, head + heads_at_once))
        yield keys, (*keys, slice(first, first + rows))


def _at_most(limit: int, total: int) -> int:
    """The size of equal parts, none above `limit` if that is at least 1, and as few as can be."""
    return -(-total // -(-total // max(limit, 1)))
