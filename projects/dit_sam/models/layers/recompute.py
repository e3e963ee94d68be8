"""Keeping less for the backward pass, at next to no cost."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def linear_of(linear: nn.Linear, cheap: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """linear(cheap(x)), where the backward pass computes cheap(x), a norm or an activation, anew from x.

    Autograd keeps the input of both functions. The product is not computed again: checkpointing stops as soon as it has
    what it wants, and a product's inputs are there before the product is.
    """
    # torch.compile computes norms and activations anew by itself; checkpointed, it would compute the product again too.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return linear(cheap(x))
    # LoRA, in the place of the linear layer, may have dropout.
    random = not isinstance(linear, nn.Linear)
    return checkpoint(lambda tokens: linear(cheap(tokens)), x, use_reentrant=False, preserve_rng_state=random)
