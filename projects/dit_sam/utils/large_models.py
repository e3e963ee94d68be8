"""Open large models without initializing random weights, reading the file in pieces."""

import os.path as osp
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .checkpoint_sources import read_checkpoint
from .checkpoints import CheckpointError, mapped_files, weights_of
from .state_dicts import check_fit, not_finite, own_names, shorten

# Bytes of a file that are read before it is mapped anew: pages that were read count as memory of the process.
PIECE = 2**28
# Smaller weights (norms, biases, SAM's positions) stay in float32. They take little memory, and sums need it.
LARGE = 2**16
_INITIALIZING = {
    getattr(Tensor, name)
    for name in ('normal_', 'uniform_', 'fill_', 'zero_', 'erfinv_', 'mul_', 'add_', 'clamp_', 'copy_')
}


class _NoInitialization(TorchFunctionMode):
    def __torch_function__(self, func: Callable, types: Any, args: Sequence = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in _INITIALIZING or getattr(func, '__module__', '') == 'torch.nn.init':
            tensor = args[0] if args else kwargs.get('tensor')
            if isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


@contextmanager
def without_initialization() -> Iterator[None]:
    """Within the block this thread makes parameters without writing to them, for models whose weights are then loaded.

    The system provides memory when it is written to. So such a model takes none before `load_in_pieces`.
    """
    with _NoInitialization():
        yield


def load_in_pieces(
    model: nn.Module, path: str, dtype: torch.dtype | None = None, target: str = 'the model'
) -> Mapping[str, Any]:
    """Load a checkpoint whose names and shapes are exactly those of the model, as `load_strictly` does.

    The file is mapped and read in pieces, so that the process needs little more memory than the weights in the model.
    On an error the model is partly loaded.

    Args:
        model: The model.
        path: The checkpoint, a file or an address.
        dtype: The type for large weights of linear layers, convolutions and embeddings; None keeps the model's.
        target: What to call the model in errors.

    Returns:
        What the checkpoint says about itself: `meta` and `message_hub`, as far as it has them.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, names or shapes differ, or a weight is not finite.
    """
    with mapped_files():
        checkpoint = read_checkpoint(path)
        weights = own_names(model, weights_of(checkpoint, path), path)
        check_fit(model, weights, path, target)
        rest = {key: checkpoint[key] for key in ('meta', 'message_hub') if key in checkpoint}
        parameters, cast = model.state_dict(keep_vars=True), _large_weights(model)
        pieces = _pieces(weights) if osp.isfile(osp.expanduser(path)) else [list(weights)]
        for i, names in enumerate(pieces):
            if i:
                del checkpoint, weights
                checkpoint = read_checkpoint(path)
                weights = own_names(model, weights_of(checkpoint, path), path)
            infinite = [name for name in names if not_finite(weights[name])]
            if infinite:
                raise CheckpointError(f'checkpoint {path} has NaN or infinity in {shorten(infinite)}')
            for name in names:
                _fill(parameters[name], weights[name], dtype if id(parameters[name]) in cast else None)
    return rest


@torch.no_grad()
def _fill(parameter: Tensor, value: Tensor, dtype: torch.dtype | None) -> None:
    """Copy a weight into a parameter, which changes its type if one is given."""
    if dtype is None:
        parameter.copy_(value)
    else:
        parameter.data = value.to(dtype, copy=True)


def _large_weights(model: nn.Module) -> set[int]:
    """The ids of the parameters that may have 16 bits."""
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
    modules = (module for module in model.modules() if isinstance(module, kinds))
    return {id(module.weight) for module in modules if module.weight.numel() >= LARGE}


def _pieces(weights: Mapping[str, Tensor]) -> list[list[str]]:
    """The names in groups of about `PIECE` bytes."""
    pieces: list[list[str]] = [[]]
    size = 0
    for name, value in weights.items():
        if size > PIECE:
            pieces.append([])
            size = 0
        pieces[-1].append(name)
        size += value.numel() * value.element_size()
    return pieces
