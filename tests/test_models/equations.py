"""Attention and instructions as a textbook has them: slow, whole, in float64, and without a line of the package.

Shapes: H × W visual tokens, L text tokens, K = L + H·W keys, M heads, C channels a head, D = M · C.
"""
import copy
from typing import Optional

import torch
from torch import Tensor, nn


def attention(layer: nn.Module, x: Tensor, text: Optional[Tensor] = None,
              mask: Optional[Tensor] = None) -> tuple[Tensor, Optional[Tensor]]:
    """What `InstructedAttention` should give, image by image and window by window.

    Args:
        layer: The layer, whose weights, heads and window size are used; in float64.
        x: Visual tokens, (B, H, W, D).
        text: Text tokens, (B, L, D).
        mask: True at real text tokens, (B, L).

    Returns:
        Visual tokens (B, H, W, D) and text tokens (B, L, D).
    """
    visual_out, text_out = [], []
    for b in range(len(x)):
        words = x.new_zeros(0, x.shape[-1]) if text is None else text[b]
        real = torch.ones(len(words), dtype=torch.bool) if mask is None else mask[b]
        visual_out.append(_in_windows(layer, x[b], words, real))
        text_out.append(_whole(layer, x[b], words, real, with_position=False)[:len(words)])
    return torch.stack(visual_out), None if text is None else torch.stack(text_out)


def _in_windows(layer: nn.Module, x: Tensor, words: Tensor, real: Tensor) -> Tensor:
    """Visual tokens (H, W, D) of one image, each out of its own window, padded with zeros like SAM's."""
    height, width, channels = x.shape
    side = layer.window_size
    if not side:
        return _whole(layer, x, words, real)[len(words):].view(height, width, channels)
    rows = []
    for top in range(0, height, side):
        row = []
        for left in range(0, width, side):
            piece = x[top:top + side, left:left + side]
            below = piece.new_zeros(side - piece.shape[0], piece.shape[1], channels)
            window = torch.cat([piece, below], 0)
            beside = window.new_zeros(side, side - window.shape[1], channels)
            window = torch.cat([window, beside], 1)
            row.append(_whole(layer, window, words, real)[len(words):].view(side, side, channels))
        rows.append(torch.cat(row, 1))
    return torch.cat(rows, 0)[:height, :width]


def _whole(layer: nn.Module, x: Tensor, words: Tensor, real: Tensor, with_position: bool = True) -> Tensor:
    """All K tokens [words; x] attend to all that are real; (K, D)."""
    height, width, channels = x.shape
    heads, count = layer.num_heads, len(words)
    sequence = torch.cat([words, x.reshape(-1, channels)])
    q, k, v = (part.view(-1, heads, channels // heads).transpose(0, 1)  # (M, K, C)
               for part in layer.qkv(sequence).chunk(3, -1))
    logits = q @ k.transpose(1, 2) / (channels // heads)**0.5
    if with_position:
        bias = torch.zeros_like(logits)
        bias[:, count:, count:] = _position(layer, q[:, count:], height, width)
        logits = logits + bias
    logits[:, :, :count] = logits[:, :, :count].masked_fill(~real, float('-inf'))
    return layer.proj((logits.softmax(-1) @ v).transpose(0, 1).reshape(-1, channels))


def _position(layer: nn.Module, q: Tensor, height: int, width: int) -> Tensor:
    """q · (r_h[y − v] + r_w[x − u]) for query (y, x) and key (v, u), all pairs; (M, H·W, H·W)."""
    rows, columns = resize(layer.rel_pos_h, 2 * height - 1), resize(layer.rel_pos_w, 2 * width - 1)
    y, x = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    distance = rows[y[:, None] - y[None] + height - 1] + columns[x[:, None] - x[None] + width - 1]  # (H·W, H·W, C)
    return torch.einsum('mqc,qkc->mqk', q, distance)


def resize(table: Tensor, length: int) -> Tensor:
    """A table (n, C) linearly at `length` points, pixel centres at halves, ends held."""
    place = ((torch.arange(length, dtype=torch.float64) + 0.5) * len(table) / length - 0.5).clamp(0, len(table) - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(table) - 1)
    share = (place - low)[:, None]
    return table[low] * (1 - share) + table[high] * share


def words_of(scheme: str, instruction: nn.Module, layer: int, features: Tensor, previous: Optional[Tensor],
             visual: Tensor) -> Tensor:
    """The text tokens T_i that enter block i = `layer`, as the paper has them.

    Args:
        scheme: Name of the instruction's class.
        instruction: The instruction, whose weights are used; in float64.
        layer: i.
        features: Projected text features F_t, (B, L, D).
        previous: What block i − 1 made of its text tokens, (B, L, D).
        visual: Visual tokens that enter block i, (B, H, W, D).
    """
    length = features.shape[1]
    if scheme == 'LayerWiseInstruction':
        return instruction.projections[layer](features)
    if scheme == 'EndToEndInstruction':
        return instruction.projections[layer](previous if layer else features)
    if scheme == 'LayerWiseStaticInstruction':
        return features + instruction.static_tokens[layer][:length]
    if scheme == 'EndToEndStaticInstruction':
        return previous + instruction.static_tokens[layer - 1][:length] if layer else instruction.projection(features)
    return torch.stack([cross_attention(instruction.layers[layer], words, image.reshape(-1, image.shape[-1]))
                        for words, image in zip(features, visual)])


def cross_attention(layer: nn.Module, words: Tensor, image: Tensor) -> Tensor:
    """LN(F_t + MHA(q = F_t, k = v = V)) for one pair of (L, D) and (H·W, D), head by head; then LN(x + FFN(x))."""
    q, k, v = layer.q_proj(words), layer.k_proj(image), layer.v_proj(image)
    heads = []
    for part in torch.arange(q.shape[1]).chunk(layer.num_heads):
        weights = (q[:, part] @ k[:, part].t() / len(part)**0.5).softmax(-1)
        heads.append(weights @ v[:, part])
    x = _norm(layer.norms[0], words + layer.out_proj(torch.cat(heads, -1)))
    if layer.ffn is None:
        return x
    hidden = layer.ffn.lin1(x)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # GELU
    return _norm(layer.norms[1], x + layer.ffn.lin2(hidden))


def _norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def double(module: nn.Module) -> nn.Module:
    """A copy in float64 without gradients."""
    clone = copy.deepcopy(module).double()
    clone.zero_grad()
    return clone
