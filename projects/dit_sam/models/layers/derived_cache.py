"""Tensors derived from weights, kept while the weights stay the same."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def is_cacheable(weight: Tensor) -> bool:
    """Whether a tensor derived from a weight may be kept: not with gradients, and not while shapes are traced.

    Weights made in `torch.inference_mode` have no version counter that would reveal a write.
    """
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or type(weight) not in (Tensor, nn.Parameter)
        or weight.is_inference()
        or torch._C._functorch.is_functorch_wrapped_tensor(weight)
    )


def sampled_values(weights: Sequence[Tensor]) -> list[float]:
    """Two or three numbers of each weight; the host waits for a GPU.

    They reveal writes of whole weights that version counters miss: through `.data`, by mmengine's averaged models, by
    torch's fused optimizers. A write through `.data` to single other numbers stays unseen until the mode is set.
    """
    flat = [weight.detach().flatten() for weight in weights]
    return torch.cat([values[:: max(len(values) // 2, 1)].float() for values in flat]).tolist()


class DerivedCache:
    """The last result computed from a weight, reused until the weight is replaced or its version counter moves.

    Only where `is_cacheable`; copies and pickles start empty.

    Args:
        make: Computes the result from the weight and further arguments.
    """

    def __init__(self, make: Callable[..., Tensor]) -> None:
        self.make = make
        # The weight, its state, the result, and the weight's storage, so that no other gets its address.
        self._kept: tuple[Tensor, tuple, Tensor, Tensor] | None = None

    def __reduce__(self) -> tuple:
        return DerivedCache, (self.make,)

    def clear(self) -> None:
        """Forget the result. mmengine swaps averaged weights in without a trace, and sets the mode afterward."""
        self._kept = None

    def __call__(self, weight: Tensor, *arguments: Any) -> Tensor:
        """`make(weight, *arguments)`."""
        if not is_cacheable(weight):
            return self.make(weight, *arguments)
        state, kept = (weight.data_ptr(), weight._version, weight.dtype, *arguments), self._kept
        if kept is None or kept[0] is not weight or kept[1] != state:
            with torch.inference_mode(False), torch.no_grad():
                kept = (weight, state, self.make(weight, *arguments), weight.detach())
            if type(kept[2]) is Tensor:
                self._kept = kept
        return kept[2]
