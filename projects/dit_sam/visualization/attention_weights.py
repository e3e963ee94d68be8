"""Attention weights, recomputed in the plain form, because the fast forms of the layers never hold them.

Shapes: B pairs, L text tokens, H × W visual tokens, M heads; G windows or images of h × w visual tokens, G / B of them
for each of B texts.
"""

from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import (
    InstructedAttention,
    pad_to_windows,
    relative_position_table,
    relative_position_terms,
    window_partition,
)
from ..models.layers.attend import split_heads


def visual_weights(
    attention: InstructedAttention,
    x: Tensor,
    text: Tensor,
    text_mask: Tensor | None = None,
    norm: Callable[[Tensor], Tensor] = nn.Identity(),
) -> Iterator[Tensor]:
    """Weights that visual tokens give to the text and to each other; arguments as in `InstructedAttention.forward`.

    Yields:
        For each head (G, h · w, L + h · w), text first. Weights times values are the input of the layer's projection.
        One head at a time: with 64 × 64 tokens it takes 67 MB.
    """
    x = norm(x)
    if attention.window_size:
        x = window_partition(pad_to_windows(x, attention.window_size), attention.window_size)
    q, k, _ = split_heads(attention.qkv(x), attention.num_heads)
    _, text_k, _ = split_heads(attention.qkv(norm(text))[:, None], attention.num_heads)
    share, length = len(x) // len(text), text.shape[1]
    hidden = None if text_mask is None else ~text_mask.repeat_interleave(share, 0)[:, None]
    tables = [
        relative_position_table(table, size)
        for table, size in zip((attention.rel_pos_h, attention.rel_pos_w), x.shape[1:3])
    ]
    for head in range(attention.num_heads):
        rows, columns = relative_position_terms(q[:, head : head + 1], *tables)
        keys = torch.cat([text_k[:, head, 0].repeat_interleave(share, 0), k[:, head].flatten(1, 2)], 1)
        logits = attention.scale * q[:, head].flatten(1, 2) @ keys.transpose(1, 2)
        logits[..., length:] += (rows[..., None] + columns[..., None, :]).flatten(4).flatten(1, 3)
        if hidden is not None:
            logits[..., :length].masked_fill_(hidden, float('-inf'))
        yield logits.softmax(-1)


def text_weights(
    attention: InstructedAttention,
    x: Tensor,
    text: Tensor,
    text_mask: Tensor | None = None,
    norm: Callable[[Tensor], Tensor] = nn.Identity(),
) -> Tensor:
    """Weights that text tokens give to each other and to the image, with `keep_text`, (B, M, L, L + H · W)."""
    q, text_k, _ = split_heads(attention.qkv(norm(text))[:, None], attention.num_heads)
    _, k, _ = split_heads(attention.qkv(norm(x)), attention.num_heads)
    logits = attention.scale * q[:, :, 0] @ torch.cat([text_k[:, :, 0], k.flatten(2, 3)], 2).transpose(2, 3)
    if text_mask is not None:
        real = F.pad(text_mask, (0, logits.shape[-1] - text.shape[1]), value=True)
        logits = logits.masked_fill(~real[:, None, None], float('-inf'))
    return logits.softmax(-1)


def cross_weights(layer: nn.Module, q: Tensor, k: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """Weights that the queries of a `MaskedAttention` or `CrossAttentionLayer` give to its keys, (B, M, T_q, T_k).

    Args:
        q: Input of the query projection, (B, T_q, D).
        k: Input of the key projection, (B, T_k, D).
        key_mask: True where a key may be attended to, (B, T_k).
    """
    q, k = (
        cast(nn.Module, projection)(tokens).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        for projection, tokens in ((layer.q_proj, q), (layer.k_proj, k))
    )
    logits = q.shape[-1] ** -0.5 * q @ k.transpose(2, 3)
    if key_mask is not None:
        logits = logits.masked_fill(~key_mask[:, None, None], float('-inf'))
    return logits.softmax(-1)
