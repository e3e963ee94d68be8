"""Bilinear and bicubic resizing with a deterministic backward pass.

On GPUs the backward pass of `F.interpolate` adds in the order in which threads arrive, and
`torch.use_deterministic_algorithms` refuses it. Resizing is a product with a fixed matrix along each axis, and so is
its backward pass. Here it is computed that way.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Matrices by the arguments that made them. A training with one size of masks has some MB; masks of any size, as in
# EVF-SAM's, would fill the memory.
_MATRICES: dict[tuple, Tensor] = {}
_MOST_BYTES = 32 * 2**20


def resize(maps: Tensor, size: tuple[int, int], mode: Literal['bilinear', 'bicubic'], align_corners: bool) -> Tensor:
    """Maps (B, C, H, W) at another size by `F.interpolate`, in float32 at least."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    # Functions cannot be traced, and counters of FLOPs trace.
    if torch.is_grad_enabled() and maps.requires_grad and not torch.jit.is_tracing():
        return _Resize.apply(maps, size, mode, align_corners)
    return F.interpolate(maps, size, mode=mode, align_corners=align_corners)


class _Resize(torch.autograd.Function):
    """`F.interpolate` with a deterministic backward pass."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, size: tuple[int, int], mode: str, align_corners: bool) -> Tensor:
        ctx.size, ctx.mode, ctx.align_corners = maps.shape[2:], mode, align_corners
        return F.interpolate(maps, size, mode=mode, align_corners=align_corners)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        with without_autocast(grad.device):
            rows, columns = (
                cached_matrix(_resize_matrix, old, new, ctx.mode, ctx.align_corners, like=grad)
                for old, new in zip(ctx.size, grad.shape[2:])
            )
            return rows.t() @ (grad @ columns), None, None, None


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Switch off autocast, which would round products to 16 bits; there is no autocast on the device 'meta'."""
    return nullcontext() if device.type == 'meta' else torch.autocast(device.type, enabled=False)


def cached_matrix(make: Callable[..., Tensor], *arguments: Any, like: Tensor) -> Tensor:
    """`make(*arguments, device, dtype)` for the device and dtype of `like`, made once.

    While shapes are traced, with tensors that have no content, it is made at every call.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return make(*arguments, like.device, like.dtype)
    key = (make, *arguments, like.device, like.dtype)
    made = _MATRICES.get(key)
    if made is None:
        with torch.inference_mode(False), torch.no_grad():
            made = make(*arguments, like.device, like.dtype)
        if type(made) is Tensor and made.nbytes <= _MOST_BYTES:
            if made.nbytes + sum(matrix.nbytes for matrix in tuple(_MATRICES.values())) > _MOST_BYTES:
                _MATRICES.clear()
            _MATRICES[key] = made
    return made


def _resize_matrix(
    length: int, size: int, mode: str, align_corners: bool, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """The matrix by which `F.interpolate` multiplies along one axis, (size, length)."""
    unit = torch.eye(length, device=device, dtype=dtype)[None, ..., None]
    return F.interpolate(unit, (size, 1), mode=mode, align_corners=align_corners)[0, ..., 0].t().contiguous()
