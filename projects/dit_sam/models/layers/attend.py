"""Softmax attention by the faster of two ways, and the layout of its heads."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Added to the logit of a key that is not attended to. exp(-3e4) is 0 in every float type, float16 ends at -65504, and
# unlike -inf it makes no NaN where all keys are masked.
MASKED = -3e4

# Up to this many keys, two plain matrix products beat the fused kernel on a CPU, forward and backward: 8 × 3 heads and
# one core, 276 keys 31 against 33 ms in fp32 and 10 against 18 ms in bf16; 596 keys and half the batch 55 against 61
# and 32 against 43 ms; with 1,044 keys the fused kernel wins.
SHORT = 512

# New in torch 2.7. Older versions cannot tell whether a graph is being exported.
is_exporting = getattr(torch.compiler, 'is_exporting', lambda: False)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float = 1.0, key_mask: Tensor | None = None) -> Tensor:
    """softmax(scale · q·kᵀ)·v.

    Args:
        q: Queries, (B, M, N, C').
        k: Keys, (B, M, K, C').
        v: Values, which may be narrower, (B, M, K, C) with C ≤ C'.
        scale: Factor on the logits.
        key_mask: True where a key may be attended to, (B, K).

    Returns:
        (B, M, N, C).
    """
    mask = None if key_mask is None else key_mask[:, None, None]
    if on_cpu(q) and k.shape[2] <= SHORT:
        logits = (q * scale) @ k.transpose(2, 3)
        if mask is not None:
            logits = logits.masked_fill(~mask, MASKED)
        return logits.softmax(-1) @ v
    # The fused kernels need queries, keys and values of one width, on GPUs a multiple of 8. Zero channels change no
    # logit, and their outputs are cut off.
    channels, width = v.shape[-1], -(-k.shape[-1] // 8) * 8
    q, k, v = (_pad_channels(x, width) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[..., :channels]


def _pad_channels(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def on_cpu(x: Tensor) -> bool:
    """Whether the CPU's own kernels apply. An exported graph does without them."""
    return x.device.type == 'cpu' and not is_exporting()


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, M, ..., C), as views of the output (B, ..., 3·M·C) of one projection."""
    q, k, v = qkv.unflatten(-1, (3, num_heads, -1)).movedim((-3, -2), (0, 2))
    return q, k, v


def prepend_text(text: Tensor | None, visual: Tensor) -> Tensor:
    """Keys or values of the text, (B, M, L, C), in front of visual ones, (G, M, h, w, C): (G, M, L + h · w, C).

    Each text goes to the G / B windows of its image.
    """
    visual = visual.flatten(2, 3)
    if text is None:
        return visual
    return torch.cat([repeat_each(text, visual.shape[0] // text.shape[0]), visual], 2)


def repeat_each(x: Tensor, times: int) -> Tensor:
    """`x.repeat_interleave(times, 0)`, whose backward pass is a plain sum."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)
