"""Weights into a model, all of them or none."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..utils import state_dict_mismatch
from .checkpoint_loader import CheckpointError

# Under which key training programs keep the weights; mmengine's is the first.
_WRAPPERS = ('state_dict', 'model', 'model_state_dict')


def load_strictly(model: nn.Module, checkpoint: Any, source: str = 'the checkpoint', target: str = 'the model') -> None:
    """Load a checkpoint whose names and shapes are exactly those of the model.

    mmengine loads what fits and logs the rest, so that weights of another model pass for weights of this one.

    Args:
        model: Where the weights go; on an error it stays as it was.
        checkpoint: What the checkpoint loader returns: the weights by name, or a dict that has them as `state_dict`,
            as mmengine writes it (after an EMA hook these are the averaged ones). `module.` before names is dropped.
        source: What to call the checkpoint in errors.
        target: What to call the model in errors.

    Raises:
        CheckpointError: The checkpoint has no weights, or its names or shapes differ from the model's.
    """
    weights = weights_of(checkpoint, source)
    misfit = state_dict_mismatch(model, weights)
    if misfit:
        raise CheckpointError(
            f'checkpoint {source} does not fit {target}, the two belong to different models: {misfit}'
        )
    model.load_state_dict(weights)


def weights_of(checkpoint: Any, source: str = 'the checkpoint') -> dict[str, Tensor]:
    """The weights in a checkpoint; arguments and errors as in `load_strictly`."""
    weights = checkpoint
    if isinstance(checkpoint, Mapping):
        key = next((key for key in _WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
        weights = checkpoint if key is None else checkpoint[key]
    if (
        not isinstance(weights, Mapping)
        or not weights
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
    ):
        found = f'only {", ".join(map(str, weights))}' if isinstance(weights, Mapping) and weights else 'nothing'
        raise CheckpointError(
            f'checkpoint {source} holds no weights: they are looked for at the top and under '
            f'{", ".join(_WRAPPERS)}, and there is {found}'
        )
    return {name.removeprefix('module.'): value for name, value in weights.items()}
