"""Weights into a model, completely or not at all."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .checkpoints import CheckpointError, weights_of
from .encoder_size import check_size, encoder_size
from .state_dict_maps import OURS, StateDictMap, find_layout, shorten
from .weight_files import read_weights

SAM_REMEDY = (
    'SAM\'s weights are under "Model Checkpoints" in the README of github.com/facebookresearch/'
    'segment-anything; put them into checkpoints/, or set init_cfg=None to start from random weights'
)


def pretrained_step(init_cfg: dict | Sequence[dict] | None) -> dict | None:
    """The one dict of type Pretrained in an `init_cfg`, alone or in a list; None where there is none.

    Raises:
        InputError: There are others beside it, or it names no checkpoint.
    """
    steps = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg or {}]
    found = next((step for step in steps if step.get('type') == 'Pretrained'), None)
    if found is not None and (len(steps) > 1 or not isinstance(found.get('checkpoint'), str)):
        raise InputError(
            f"init_cfg={init_cfg}: Pretrained stands alone and names a file, dict(type='Pretrained', checkpoint=FILE)"
        )
    return found


def load_sam_weights(module: nn.Module, checkpoint: str, parts: Mapping[str, str], own: tuple[str, ...] = ()) -> None:
    """Load the weights of SAM that belong to `module`.

    Args:
        module: A backbone or head with SAM's state-dict names.
        checkpoint: SAM's own file (`sam_vit_{b,l,h}_*.pth`), or one in another layout of `LAYOUTS`: Hugging Face's SAM
            (or its folder), a checkpoint of this project, the released DIT.
        parts: Prefixes in SAM's file, and the prefixes in `module` that they stand for.
        own: Prefixes of weights that SAM does not have. They are taken where the file has them, and else stay as they
            are.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: The encoder has another size, or weights are missing, unknown or of another shape.
    """
    if '://' not in checkpoint and not os.path.exists(os.path.expanduser(checkpoint)):
        raise FileNotFoundError(f'checkpoint {checkpoint} not found: {SAM_REMEDY}')
    weights = read_weights(checkpoint)
    layout = find_layout(weights, f'checkpoint {checkpoint}')
    check_size(encoder_size(weights, layout), module, f'checkpoint {checkpoint}')
    weights = _names_of_sam(weights, layout, checkpoint)
    # Where SAM's file would have the weights of `own`: 'image_encoder.' or ''.
    (root,) = {theirs.removesuffix(ours) for theirs, ours in parts.items()}
    wanted = {**parts, **{root + prefix: prefix for prefix in own}}
    state_dict = {
        ours + name.removeprefix(theirs): value
        for theirs, ours in wanted.items()
        for name, value in weights.items()
        if name.startswith(theirs)
    }
    misfit = describe_misfit(module, state_dict, own)
    if misfit:
        raise InputError(f'checkpoint {checkpoint} does not fit {type(module).__name__}: {misfit}')
    module.load_state_dict(state_dict, strict=False)


def _names_of_sam(weights: Mapping[str, Tensor], layout: StateDictMap, checkpoint: str) -> dict[str, Tensor]:
    """Weights in some layout with the parts named as in SAM's file, those included that SAM does not have."""
    try:
        # In a checkpoint of ours there may be parts that no table knows, a neck say; they do not matter here.
        ours = weights if layout is OURS else layout.to_ours(weights)
    except InputError as error:
        raise InputError(f'checkpoint {checkpoint}: {error}') from error
    return {re.sub(r'^decode_head\.', '', re.sub(r'^backbone\.', 'image_encoder.', name)): ours[name] for name in ours}


def describe_misfit(
    expected: nn.Module | Mapping[str, Tensor], state_dict: Mapping[str, Tensor], own: tuple[str, ...] = ()
) -> str:
    """What keeps a state dict from fitting, in one line; '' where it fits. Long lists are cut.

    NaN and infinity, which torch would copy, fit nowhere, nor do integers in the place of floating-point numbers. Where
    LoRA alone is too much or too little, the line says what to do.

    Args:
        expected: The module, or its state dict.
        state_dict: Weights by the same names.
        own: Prefixes of weights that may be missing.
    """
    expected = expected.state_dict() if isinstance(expected, nn.Module) else expected
    missing = sorted(name for name in expected.keys() - state_dict.keys() if not name.startswith(own))
    unknown = sorted(state_dict.keys() - expected.keys())
    misshapen = [
        f'{name} is {tuple(state_dict[name].shape)}, not {tuple(value.shape)}'
        for name, value in expected.items()
        if name in state_dict and state_dict[name].shape != value.shape
    ]
    pairs = [
        (name, state_dict[name], value)
        for name, value in expected.items()
        if name in state_dict and state_dict[name].shape == value.shape
    ]
    foreign = [
        f'{name} is {theirs.dtype}, not {ours.dtype}' for name, theirs, ours in pairs if not _alike(theirs, ours)
    ]
    spoilt = [name for name, theirs, ours in pairs if _alike(theirs, ours) and not _is_finite(theirs)]
    lists = (
        ('missing', missing),
        ('unknown', unknown),
        ('of another shape (another arch?)', misshapen),
        ('of another type', foreign),
        ('with NaN or infinity', spoilt),
    )
    problems = '; '.join(f'{len(names)} weights {what}: {shorten(names)}' for what, names in lists if names)
    return problems + _lora_advice(missing, unknown)


def _lora_advice(missing: Sequence[str], unknown: Sequence[str]) -> str:
    """What to do where all weights that are missing, or all that are unknown, are those of LoRA."""
    if unknown and all('.lora_' in name for name in unknown):
        return (
            '; these are of LoRA: merge it by tools/model_converters/publish_model.py CHECKPOINT OUT --merge-lora, '
            'or name the config of its training'
        )
    if missing and all('.lora_' in name for name in missing):
        return (
            '; these are of LoRA, which the config has and the checkpoint not: leave `lora` out, or for a training '
            'that begins with it set default_hooks.checkpoint.strict_load=False'
        )
    return ''


def _alike(theirs: Tensor, ours: Tensor) -> bool:
    """Whether one can be copied into the other with no more than rounding."""
    dense = theirs.layout == torch.strided and not theirs.is_quantized
    return dense and (theirs.is_floating_point(), theirs.is_complex()) == (ours.is_floating_point(), ours.is_complex())


def _is_finite(weights: Tensor) -> bool:
    # Not every floating-point type has `isfinite`.
    return weights.is_meta or not weights.is_floating_point() or bool(weights.float().isfinite().all())


def load_strictly(model: nn.Module, checkpoint: Any, source: str = 'the checkpoint', target: str = 'the model') -> None:
    """Load a checkpoint whose names and shapes are exactly those of the model.

    mmengine loads what fits and logs the rest, so that weights of another model pass for weights of this one.

    Args:
        model: The model. It does not change on an error.
        checkpoint: As in `weights_of`.
        source: What to call the checkpoint in errors.
        target: What to call the model in errors.

    Raises:
        CheckpointError: The checkpoint has no weights, or its names or shapes differ from the model's.
    """
    weights = weights_of(checkpoint, source)
    misfit = describe_misfit(model, weights)
    if misfit:
        raise CheckpointError(
            f'checkpoint {source} does not fit {target}, the two belong to different models: {misfit}'
        )
    model.load_state_dict(weights)
