"""Softmax attention, by the faster of two ways."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Added to the logit of a key that is not attended to. exp(-3e4) is 0 in every float type, float16 ends at -65504, and
# unlike -inf it makes no NaN where all keys are masked.
MASKED = -3e4

# Keys up to which two plain matrix products beat the fused kernel on a CPU, forward and backward: 8 × 3 heads and one
# core, 276 keys 31 against 33 ms in fp32 and 10 against 18 ms in bf16; 596 keys and half the batch 55 against 61 and 32
# against 43 ms; with 1,044 keys the fused kernel wins.
SHORT = 512

# torch has it from 2.7 on.
is_exporting = getattr(torch.compiler, 'is_exporting', bool)


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
    if on_cpu(q) and k.shape[2] <= SHORT:
        logits = (q * scale) @ k.transpose(2, 3)
        if key_mask is not None:
            logits = logits.masked_fill(~key_mask[:, None, None], MASKED)
        return logits.softmax(-1) @ v
    # The fused kernels want queries, keys and values of one width, on GPUs a multiple of 8. Zeros change no logit, and
    # come out as zeros, which are cut off.
    width = -(-k.shape[-1] // 8) * 8
    mask = None if key_mask is None else key_mask[:, None, None]
    out = F.scaled_dot_product_attention(*(_widen(x, width) for x in (q, k, v)), attn_mask=mask, scale=scale)
    return out[..., : v.shape[-1]]


def on_cpu(x: Tensor) -> bool:
    """Whether plain products in small pieces are the fast way. In an exported graph they are not."""
    return x.device.type == 'cpu' and not is_exporting()


def _widen(x: Tensor, width: int) -> Tensor:
    return F.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x
