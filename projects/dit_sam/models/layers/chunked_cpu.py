"""SAM's attention on a CPU: in chunks of the logits that stay in the cache.

softmax(scale · q·kᵀ + r_h[q, row of k] + r_w[q, column of k]) · v, where text keys come first and have bias 0. Only
one chunk of the probabilities exists at a time. The backward pass recomputes them, as flash attention does.

This kernel is kept because it is at least 1.15 × faster in some cases. Seconds with it / with sdpa_relpos.py, whose
heads are wider by the bias, on 2 threads with torch 2.13.0 and malloc keeping memory (docs/benchmarks.md), medians of
5; linear layers as in linear.py:

    L-DIT ViT-B at 512², AMD EPYC with AVX-512:  float32 forward 0.79 / 0.95, training step 4.0 / 4.5;
                                                 bfloat16 0.43 / 0.73 and 1.53 / 2.05
    L-DIT ViT-B at 512², AVX2 without AVX-512:   float32 1.89 / 2.07 and 6.0 / 6.9
    SAM ViT-B at 1024², AMD EPYC with AVX-512:   float32 forward 3.41 / 5.17

Shapes: G windows or images, G / B of them for each of B texts; M heads; h × w queries and as many visual keys; L text
keys; K = L + h · w; C channels a head, D = M · C.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .attend import MASKED, prepend_text, repeat_each, split_heads
from .relative_position import relative_position_terms

# Logits in a chunk, 8 MB in fp32. A quarter of them costs 10 % more; twice as many leave the cache and cost twice as
# much.
CHUNK = 2**21


def chunked_attention(
    qkv: Tensor,
    text_k: Tensor | None,
    text_v: Tensor | None,
    text_mask: Tensor | None,
    table_h: Tensor,
    table_w: Tensor,
    num_heads: int,
    scale: float,
) -> Tensor:
    """Visual tokens attend to the text and to each other.

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
    tensors = (qkv, text_k, text_v, text_mask, table_h.to(qkv.dtype), table_w.to(qkv.dtype))
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in tensors if x is not None)
    if trains and not torch.jit.is_tracing():
        return _ChunkedAttention.apply(*tensors, num_heads, scale)
    return _attend(_prepare(*tensors, num_heads), scale)


class _ChunkedAttention(torch.autograd.Function):
    """The same, which keeps only its arguments for the backward pass."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.num_heads, ctx.scale = arguments
        ctx.save_for_backward(*tensors)
        return _attend(_prepare(*arguments[:-1]), ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Read once: under checkpointing every access recomputes them.
        qkv, text_k, text_v, mask, table_h, table_w = ctx.saved_tensors
        operands = _prepare(qkv, text_k, text_v, mask, table_h, table_w, ctx.num_heads)
        grad = grad.unflatten(-1, (ctx.num_heads, -1)).permute(0, 3, 1, 2, 4)
        grad_q, grad_k, grad_v, rows, columns = _attend_backward(grad, operands, ctx.scale)
        grad_q += torch.einsum('bmhwk,hkc->bmhwc', rows, table_h)
        grad_q += torch.einsum('bmhwk,wkc->bmhwc', columns, table_w)
        grad_h = torch.einsum('bmhwk,bmhwc->hkc', rows, operands.q)
        grad_w = torch.einsum('bmhwk,bmhwc->wkc', columns, operands.q)
        grad_qkv = torch.empty_like(qkv)
        into_q, into_k, into_v = split_heads(grad_qkv, ctx.num_heads)
        into_q.copy_(grad_q)
        grad_text = (_split_gradient(grad_k, into_k, text_k), _split_gradient(grad_v, into_v, text_v))
        return grad_qkv, *grad_text, None, grad_h, grad_w, None, None


class _Operands(NamedTuple):
    q: Tensor  # (G, M, h, w, C)
    k: Tensor  # the text's in front, (G, M, K, C)
    v: Tensor  # the same
    rows: Tensor  # terms of relative position by key row, (G, M, h, w, h)
    columns: Tensor  # by key column, (G, M, h, w, w)
    text_bias: Tensor  # added to the logits of text keys, (G, 1, 1, L)


def _prepare(
    qkv: Tensor,
    text_k: Tensor | None,
    text_v: Tensor | None,
    text_mask: Tensor | None,
    table_h: Tensor,
    table_w: Tensor,
    num_heads: int,
) -> _Operands:
    q, k, v = split_heads(qkv, num_heads)
    length = 0 if text_k is None else text_k.shape[2]
    bias = qkv.new_zeros(len(qkv), 1, 1, length)
    if text_mask is not None:
        bias.masked_fill_(~repeat_each(text_mask, len(qkv) // len(text_mask))[:, None, None], MASKED)
    rows, columns = relative_position_terms(q, table_h, table_w)
    return _Operands(q, prepend_text(text_k, k), prepend_text(text_v, v), rows, columns, bias)


def _attend(operands: _Operands, scale: float) -> Tensor:
    """The output of the queries, (G, h, w, D)."""
    q, _, v, *_ = operands
    groups, heads, height, width, channels = q.shape
    out = q.new_empty(groups, height, width, heads, channels)
    gathered = out.permute(0, 3, 1, 2, 4)
    for keys, queries in _chunks(operands):
        gathered[queries] = (_softmax(operands, keys, queries, scale) @ v[keys].flatten(0, 1)).view(q[queries].shape)
    return out.flatten(3)


def _attend_backward(grad: Tensor, operands: _Operands, scale: float) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, rows and columns from that of the output, (G, M, h, w, C).

    With p = softmax(s) and o = p·v: dv = pᵀ·do, dp = do·vᵀ, ds = p ∘ (dp − Σ p ∘ dp), dq = scale · ds·k,
    dk = scale · dsᵀ·q; rows and columns get the sums of ds over the keys of a row and of a column.
    """
    q, k, v, rows, columns, bias = operands
    grad_q, grad_rows, grad_columns = (torch.empty_like(x) for x in (q, rows, columns))
    # At least float32, because several chunks may add to the same keys.
    grad_k, grad_v = (torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32)) for x in (k, v))
    for keys, queries in _chunks(operands):
        weights = _softmax(operands, keys, queries, scale)
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


def _softmax(operands: _Operands, keys: tuple[slice, ...], queries: tuple[slice, ...], scale: float) -> Tensor:
    """The probabilities of one chunk of g groups, m heads and r rows of queries, (g · m, r · w, K)."""
    q, k, rows, columns = operands.q[queries], operands.k[keys], operands.rows[queries], operands.columns[queries]
    bias = operands.text_bias[keys[:1]]
    shape, length = (*q.shape[:2], q.shape[2] * q.shape[3]), bias.shape[-1]
    logits = q.new_empty(*shape, k.shape[2])
    logits[..., :length] = bias
    visual = logits[..., length:].unflatten(-1, (rows.shape[-1], columns.shape[-1]))
    visual.copy_(rows.reshape(*shape, -1, 1)).add_(columns.reshape(*shape, 1, -1))
    return logits.flatten(0, 1).baddbmm_(_flat(q), k.flatten(0, 1).transpose(1, 2), alpha=scale).softmax(-1)


def _flat(x: Tensor) -> Tensor:
    """(g, m, r, w, C) as (g · m, r · w, C)."""
    return x.flatten(0, 1).flatten(1, 2)


def _split_gradient(grad: Tensor, visual: Tensor, text: Tensor | None) -> Tensor | None:
    """Write the visual part of the gradient of keys or values (G, M, K, C) into `visual`, (G, M, h, w, C).

    Returns:
        The gradient of the text's keys or values, (B, M, L, C).
    """
    length = 0 if text is None else text.shape[2]
    visual.copy_(grad[:, :, length:].view(visual.shape))
    return None if text is None else grad[:, :, :length].unflatten(0, (len(text), -1)).sum(1).to(text.dtype)


def _chunks(operands: _Operands) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Slices of keys, by group and head, and of queries, by group, head and row.

    A chunk has at most `CHUNK` logits where one row of queries has no more.
    """
    groups, heads, height, width = operands.q.shape[:4]
    row = width * operands.k.shape[2]
    rows = _equal_parts(CHUNK // row, height)
    heads_at_once = _equal_parts(CHUNK // (rows * row), heads)
    groups_at_once = _equal_parts(CHUNK // (heads_at_once * rows * row), groups)
    for group, head, first in product(
        range(0, groups, groups_at_once), range(0, heads, heads_at_once), range(0, height, rows)
    ):
        keys = (slice(group, group + groups_at_once), slice(head, head + heads_at_once))
        yield keys, (*keys, slice(first, first + rows))


def _equal_parts(limit: int, total: int) -> int:
    """The size of the fewest equal parts of `total`, each at most `limit`, or 1 where `limit` is 0."""
    return -(-total // -(-total // max(limit, 1)))
