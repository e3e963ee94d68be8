"""State dicts: whether one fits a model, and loading it as a whole or not at all."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .checkpoints import CheckpointError, weights_of


def load_strictly(model: nn.Module, checkpoint: Any, source: str = 'the checkpoint') -> None:
    """Load a checkpoint whose names and shapes are exactly those of the model.

    mmengine loads what fits and logs the rest, so that weights of another model are accepted as weights of this one. A
    model with a method `to_own_names` translates names of other programs first.

    Args:
        model: The model. It does not change on an error.
        checkpoint: As in `weights_of`.
        source: What to call the checkpoint in errors.

    Raises:
        CheckpointError: The checkpoint has no weights, or its names or shapes differ from the model's.
    """
    weights = own_names(model, weights_of(checkpoint, source), source)
    check_fit(model, weights, source, 'the model', values=True)
    model.load_state_dict(weights)


def own_names(model: nn.Module, weights: Mapping[str, Tensor], source: str = 'the checkpoint') -> Mapping[str, Tensor]:
    """The weights under the names of the model, if it can translate those of other programs by `to_own_names`.

    Raises:
        CheckpointError: It is a checkpoint of such a program, with names that are unknown.
    """
    to_own_names: Any = getattr(model, 'to_own_names', None)
    try:
        return weights if to_own_names is None else to_own_names(weights)
    except InputError as error:
        raise CheckpointError(f'{source} cannot be translated: {error}') from error


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], source: str, target: str, values: bool = False) -> None:
    """Raise `CheckpointError` if names or shapes differ from the model's or, with `values`, a weight is not finite."""
    misfit = state_dict_mismatch(model, weights, values=values)
    if misfit:
        raise CheckpointError(
            f'checkpoint {source} does not fit {target}, the two belong to different models: {misfit}'
        )


def state_dict_mismatch(
    expected: nn.Module | Mapping[str, Tensor],
    state_dict: Mapping[str, Tensor],
    extra_prefixes: tuple[str, ...] = (),
    values: bool = True,
) -> str:
    """Why a state dict does not fit, in one line; '' if it fits.

    NaN and infinity, which torch would copy, do not fit, nor do integers in place of floating-point numbers.

    Args:
        expected: The module, or its state dict.
        state_dict: Weights by the same names.
        extra_prefixes: Prefixes of weights that may be missing.
        values: Whether the values are read.
    """
    expected = expected.state_dict() if isinstance(expected, nn.Module) else expected
    missing = sorted(name for name in expected.keys() - state_dict.keys() if not name.startswith(extra_prefixes))
    unknown = sorted(state_dict.keys() - expected.keys())
    shapes, dtypes, infinite = [], [], []
    for name, ours in expected.items():
        if name not in state_dict:
            continue
        theirs = state_dict[name]
        if theirs.shape != ours.shape:
            shapes.append(f'{name} is {tuple(theirs.shape)}, not {tuple(ours.shape)}')
        elif not _same_kind(theirs, ours):
            dtypes.append(f'{name} is {theirs.dtype}, not {ours.dtype}')
        elif values and not_finite(theirs):
            infinite.append(name)
    lists = (
        ('missing', missing),
        ('unknown', unknown),
        ('of another shape (another arch?)', shapes),
        ('of another type', dtypes),
        ('with NaN or infinity', infinite),
    )
    problems = '; '.join(f'{len(names)} weights {what}: {shorten(names)}' for what, names in lists if names)
    return problems + _lora_advice(missing, unknown)


def _lora_advice(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """The remedy where all missing or all unknown weights are those of LoRA."""
    if unknown and all('.lora_' in name for name in unknown):
        return (
            '; these are of LoRA: merge it by tools/model_converters/publish_model.py CHECKPOINT OUT --merge-lora, '
            'or name the config of its training'
        )
    if missing and all('.lora_' in name for name in missing):
        return '; these are of LoRA, which the config has but the checkpoint does not: leave `lora` out of the config'
    return ''


def _same_kind(theirs: Tensor, ours: Tensor) -> bool:
    """Whether copying one into the other only rounds."""
    dense = theirs.layout == torch.strided and not theirs.is_quantized
    return dense and (theirs.is_floating_point(), theirs.is_complex()) == (ours.is_floating_point(), ours.is_complex())


def not_finite(weights: Tensor) -> bool:
    """Whether a tensor holds NaN or infinity."""
    if not weights.is_floating_point() or weights.is_meta or not weights.numel():
        return False
    # Both are NaN if any weight is. Not every floating-point type has `aminmax`; `isfinite` of all takes 40 times as
    # long.
    lowest, highest = weights.float().aminmax()
    return not bool(lowest.isfinite() and highest.isfinite())


def shorten(names: Sequence[str], most: int = 5) -> str:
    """The first names in one line, and how many follow."""
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')
