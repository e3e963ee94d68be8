"""Opening large models: without the work and the memory of random weights, and file by piece."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .checkpoint_sources import read_checkpoint
from .checkpoints import CheckpointError, mapped_files, weights_of
from .state_dicts import state_dict_mismatch

# Bytes of a file that are read before it is opened anew: the pages of a mapped file count as the program's memory.
PIECE = 2**28
# Smaller weights (norms, biases, positions) stay in float32: they take no memory to speak of, and sums need them.
LARGE = 2**16
_FILLING = {getattr(Tensor, name) for name in ('normal_', 'uniform_', 'fill_', 'zero_', 'erfinv_', 'mul_', 'add_', 'clamp_')}


class _KeepAsAllocated(TorchFunctionMode):
    """Leaves parameters as they were allocated where an initialization would write to them."""

    def __torch_function__(self, func: Callable, types: Any, args: Sequence = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in _FILLING or getattr(func, '__module__', '') == 'torch.nn.init':
            tensor = args[0] if args else kwargs.get('tensor')
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


@contextmanager
def without_initialization() -> Iterator[None]:
    """Within the block, this thread makes parameters without initializing them.

    The system gives memory when it is written to, so that a model takes its memory only when its weights are loaded.
    Only for models all of whose weights are loaded afterwards.
    """
    with _KeepAsAllocated():
        yield
