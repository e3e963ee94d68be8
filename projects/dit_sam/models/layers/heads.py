"""Heads of visual tokens and of text. Shapes: G windows or images, G / B of them for each of B texts; M heads; h × w
visual tokens; L text tokens; C channels a head, D = M · C."""

import torch
from torch import Tensor


def split_heads(qkv: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (G, M, h, w, C) in (G, h, w, 3D), as views."""
    return qkv.unflatten(-1, (3, num_heads, -1)).permute(3, 0, 4, 1, 2, 5).unbind()


def with_text(text: Tensor | None, visual: Tensor) -> Tensor:
    """Keys or values of the text (B, M, L, C) in front of visual ones (G, M, h, w, C), (G, M, L + h · w, C)."""
    visual = visual.flatten(2, 3)
    if text is None:
        return visual
    return torch.cat([repeat_rows(text, visual.shape[0] // text.shape[0]), visual], 2)


def repeat_rows(x: Tensor, times: int) -> Tensor:
    """(B, ...) as (B · times, ...), each row `times` times in turn; the backward pass is a sum."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)
