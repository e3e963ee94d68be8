"""Which model `ReferringInferencer` takes: a given config and checkpoint, or the small one shipped with the project."""

import os
from copy import deepcopy
from pathlib import Path
from typing import TypeAlias

import torch
from mmengine.config import Config

from ..compat import usual_device
from ..engine.launch import load_config
from ..errors import InputError, first_line
from ..mmengine_extras.config_check import check_config
from ..registry import config_folder

ModelInput: TypeAlias = str | os.PathLike | Config | dict | None

_PACKAGE = Path(__file__).resolve().parents[1]
ASSETS = _PACKAGE / 'assets'
DEFAULT_CONFIG = str(config_folder() / 'dit_sam' / 'ldit_vit-t_shapes.py')
DEFAULT_CHECKPOINT = str(ASSETS / 'ldit_vit-t_shapes.safetensors')
DRAWINGS_ONLY = (
    'the shipped model knows only drawings of shapes; for photographs use --model evf-sam (in Python '
    "ReferringInferencer.from_pretrained('evf-sam')), a download of 2.6 GB"
)


def resolve_model(model: ModelInput, weights: str | os.PathLike | None, scope: str) -> tuple[Config | dict, str | None]:
    """The checked config and the path of the weights; without a model those of the shipped one.

    Raises:
        FileNotFoundError: There is no such config.
        InputError: There are weights without a config, the config is wrong, or the model belongs to another scope.
    """
    if model is None and weights is not None:
        raise InputError(
            f'{weights} without a config: name the config too; one inside a checkpoint is code, and is not run'
        )
    if model is None:
        model, weights = DEFAULT_CONFIG, DEFAULT_CHECKPOINT
    if isinstance(model, (str, os.PathLike)):
        if not (os.path.splitext(model)[1] or os.path.exists(model)):
            raise InputError(
                f'{model} is no config file: a shared model, or one of `dit-sam list-models`, is opened by '
                f'ReferringInferencer.from_pretrained({str(model)!r})'
            )
        config: Config | dict = load_config(os.fspath(model))
    else:
        config = deepcopy(model)
        check_config(config, 'the config')
    if config.get('default_scope', scope) != scope:
        raise InputError(f'the model is of {config["default_scope"]}: ReferringInferencer takes models of {scope}')
    return config, None if weights is None else os.fspath(weights)


def check_device(device: str | None) -> None:
    """Raise `InputError` if torch does not know a device or the machine does not have it."""
    try:
        torch.empty(0, device=device)
    # An AssertionError if torch was built without CUDA.
    except (AssertionError, RuntimeError) as error:
        reason = first_line(error)
        raise InputError(f'there is no device {device!r} here ({reason}): leave it out, or name cpu') from error


def check_dtype(name: str, device: str | None) -> torch.dtype | None:
    """The type with 16 bits that a name means; None for float32.

    Raises:
        InputError: It is another name, float16 for a CPU, or bfloat16 for a GPU without it.
    """
    known = dict(float32=None, bfloat16=torch.bfloat16, float16=torch.float16)
    if name not in known:
        raise InputError(f'dtype={name!r} is not one of {", ".join(known)}')
    kind = torch.device(device or usual_device()).type
    if name == 'float16' and kind == 'cpu':
        raise InputError('float16 is for GPUs: take bfloat16 on a CPU')
    if name == 'bfloat16' and kind == 'cuda' and torch.cuda.get_device_capability(device) < (8, 0):
        raise InputError('this GPU has no bfloat16 arithmetic, which came with Ampere: take float16')
    return known[name]
