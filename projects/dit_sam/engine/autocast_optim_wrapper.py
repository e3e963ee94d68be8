"""Mixed precision without a loss scaler, on any device."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import autocast
from mmseg.registry import OPTIM_WRAPPERS
from torch import nn

from ..compat import has_bfloat16
from ..errors import InputError
from .guarded_optim_wrapper import GuardedOptimWrapper

NO_BFLOAT16 = 'This CPU has no bfloat16 arithmetic: the {} stays in float32'


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(GuardedOptimWrapper):
    """Run the forward pass of training under autocast.

    mmengine's ``AmpOptimWrapper`` scales the loss and works on accelerators only. bfloat16 has the exponent range of
    float32, needs no scaling, and so works on a CPU too. Parameters, gradients and optimizer state stay float32;
    validation and prediction are not touched. A CPU without bfloat16 arithmetic would be many times slower: there
    everything stays float32, and the log says so.

    Args:
        dtype: What to compute in: bfloat16, by name or as ``torch.bfloat16``.
        **kwargs: Arguments of ``GuardedOptimWrapper``.

    Raises:
        InputError: Another type; float16 would need a loss scale.
    """

    def __init__(self, dtype: str | torch.dtype = 'bfloat16', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if self.dtype is torch.float16:
            raise InputError(
                "optim_wrapper.dtype='float16' needs a loss scale, or small gradients are lost: set "
                'optim_wrapper.type=AmpOptimWrapper, or leave dtype out for bfloat16'
            )
        if self.dtype is not torch.bfloat16:
            raise InputError(f"dtype of AutocastOptimWrapper must be 'bfloat16', got {dtype!r}")
        self.enabled = has_bfloat16(get_device())
        if not self.enabled:
            print_log(NO_BFLOAT16.format('training'), logger='current', level=logging.WARNING)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Add autocast to the context of the forward pass.

        Args:
            model (nn.Module): The model in training.
        """
        with super().optim_context(model), autocast(dtype=self.dtype, enabled=self.enabled):
            yield
