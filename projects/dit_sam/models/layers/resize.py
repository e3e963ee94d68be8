"""Bilinear and bicubic resizing whose backward pass is the same at every run, and what is resized but once.

On GPUs the backward pass of `F.interpolate` adds in the order in which threads come, and
`torch.use_deterministic_algorithms` refuses it. Resizing is a product with a fixed matrix along each axis. So is its
backward pass, and here it is computed that way.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Matrices by how they were made: some MB, as a training has few sizes.
_MADE: dict[tuple, Tensor] = {}


def resize(maps: Tensor, size: tuple[int, int], mode: Literal['bilinear', 'bicubic'], align_corners: bool) -> Tensor:
    """Maps (B, C, H, W) at another size by `F.interpolate`, in float32 at least."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    if torch.is_grad_enabled() and maps.requires_grad:
        return _Resize.apply(maps, size, mode, align_corners)
    return F.interpolate(maps, size, mode=mode, align_corners=align_corners)


class _Resize(torch.autograd.Function):
    """`F.interpolate` with another backward pass."""

    @staticmethod
    def forward(ctx, maps: Tensor, size: tuple[int, int], mode: str, align_corners: bool) -> Tensor:
        ctx.size, ctx.mode, ctx.align_corners = maps.shape[2:], mode, align_corners
        return F.interpolate(maps, size, mode=mode, align_corners=align_corners)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        with without_autocast(grad.device):
            rows, columns = (
                kept_matrix(_resize_matrix, old, new, ctx.mode, ctx.align_corners, like=grad)
                for old, new in zip(ctx.size, grad.shape[2:])
            )
            return rows.t() @ (grad @ columns), None, None, None


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Autocast, which would round products to 16 bits, is off; there is none of tensors without content."""
    return nullcontext() if device.type == 'meta' else torch.autocast(device.type, enabled=False)


def kept_matrix(make: Callable[..., Tensor], *arguments: Any, like: Tensor) -> Tensor:
    """`make(*arguments, device, dtype)`, as another tensor has them, from among those that were made before.

    It is made anew where shapes are traced and tensors have no content.
    """
    if torch.compiler.is_compiling() or type(like) is not Tensor:
        return make(*arguments, like.device, like.dtype)
    key = (make, *arguments, like.device, like.dtype)
    made = _MADE.get(key)
    if made is None:
        with torch.inference_mode(False), torch.no_grad():
            made = make(*arguments, like.device, like.dtype)
        if type(made) is Tensor:
            _MADE[key] = made
    return made


def _resize_matrix(
    length: int, size: int, mode: str, align_corners: bool, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """What `F.interpolate` does along one axis, (size, length)."""
    unit = torch.eye(length, device=device, dtype=dtype)[None, ..., None]
    return F.interpolate(unit, (size, 1), mode=mode, align_corners=align_corners)[0, ..., 0].t().contiguous()


def is_cacheable(weight: Tensor) -> bool:
    """Whether what is made of a weight may be kept: not with gradients, nor while shapes are traced; and not of weights
    made in `torch.inference_mode`, which do not tell that they were written to."""
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or type(weight) not in (Tensor, nn.Parameter)
        or weight.is_inference()
        or torch._C._functorch.is_functorch_wrapped_tensor(weight)
    )


def spot_values(weights: Sequence[Tensor]) -> list[float]:
    """Two or three numbers of each weight; a GPU is waited for. They show writes that a version counter does not count:
    through `.data`, by mmengine's averaged models, by torch's fused optimizers."""
    flat = [weight.detach().flatten() for weight in weights]
    return torch.cat([values[:: max(len(values) // 2, 1)].float() for values in flat]).tolist()


class DerivedCache:
    """The last result computed from a weight, reused until the weight is replaced or its version counter moves.

    Only where `is_cacheable`; copies and pickles start empty.

    Args:
        make: Computes the result from the weight and further arguments.
    """

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self.make, self._kept = make, None

    def __reduce__(self) -> tuple:
        return DerivedCache, (self.make,)

    def clear(self) -> None:
        """Forget it. Averaged weights are exchanged unseen, and then the mode is set."""
        self._kept = None

    def __call__(self, weight: Tensor, *arguments: Any) -> Tensor:
        """`make(weight, *arguments)`."""
        if not is_cacheable(weight):
            return self.make(weight, *arguments)
        state, kept = (weight.data_ptr(), weight._version, weight.dtype, *arguments), self._kept
        if kept is None or kept[0] is not weight or kept[1] != state:
            with torch.inference_mode(False), torch.no_grad():
                # With the storage, whose address no other may get meanwhile.
                kept = (weight, state, self.make(weight, *arguments), weight.detach())
            if type(kept[2]) is Tensor:
                self._kept = kept
        return kept[2]
