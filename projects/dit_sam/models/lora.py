"""Low-rank adaptation (LoRA, arXiv 2106.09685) of the encoders, by peft.

A layer W of which LoRA takes care computes W·x + (lora_alpha / r)·B·A·x. W stays as it is; A and B train.
"""

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

from torch import nn

from ..errors import InputError

INSTALL = 'LoRA needs peft: pip install "dit-sam[lora]"'


def add_lora(model: nn.Module, lora: Mapping, key: str) -> None:
    """Freeze a model, and put low-rank weights that train beside the layers that `target_modules` names.

    State-dict names stay those of the model without LoRA, so that its weights load as before; `NAME.lora_A.weight` and
    `NAME.lora_B.weight` join `NAME.weight`, as in peft's own files. B is 0 at the start: nothing changes.

    Args:
        model: What is changed, in place.
        lora: Keywords of `peft.LoraConfig`, such as dict(r=8, lora_alpha=16, target_modules=['query', 'value']).
        key: What to call `lora` in errors.

    Raises:
        InputError: peft is not installed, or `lora` has an unknown keyword or one that does not fit.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(f'{key}: {INSTALL} ({error})') from error
    _check_targets(model, lora.get('target_modules'), key)
    try:
        # Its `bias` would train what is the model's own, `lora_bias` is left out where SAM pads its windows.
        config = LoraConfig(**lora, bias='none', lora_bias=False)
        model.requires_grad_(False)
        inject_adapter_in_model(config, model)
    except (TypeError, ValueError) as error:
        raise InputError(f'{key}: {str(error).splitlines()[0]}') from error
    for layer in _layers(model).values():
        layer._register_state_dict_hook(_to_plain_names)
        layer._register_load_state_dict_pre_hook(_from_plain_names, with_module=True)


def lora_names(model: nn.Module) -> tuple[str, ...]:
    """State-dict names of the weights that LoRA adds; none where there is no LoRA."""
    return tuple(name for name in model.state_dict() if '.lora_' in name)


def merge_lora(model: nn.Module) -> int:
    """Put W + (lora_alpha / r)·B·A in the place of each layer that has LoRA.

    Returns:
        The number of such layers.
    """
    layers = _layers(model)
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    return len(layers)


def _check_targets(model: nn.Module, targets: Any, key: str) -> None:
    """peft would leave out names that fit nothing as long as another one fits."""
    names = [name for name, _ in model.named_modules()]
    for target in () if isinstance(targets, str) else targets or ():
        if not any(f'.{name}'.endswith(f'.{target}') for name in names):
            layers = sorted(
                {name.rpartition('.')[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
            )
            raise InputError(f'{key}.target_modules: there is no {target!r}; the linear layers are {layers}')


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with LoRA, by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, 'lora_A')}


def _names(layer: nn.Module) -> dict[str, str]:
    """Names of a layer's weights as peft has them, and without the adapter's name and the wrapped layer's."""
    names = (name for name, _ in chain(layer.named_parameters(), layer.named_buffers()))
    return {name: re.sub(r'\.default(?=\.|$)', '', name.removeprefix('base_layer.')) for name in names}


def _to_plain_names(layer: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    for name, plain in _names(layer).items():
        state_dict[prefix + plain] = state_dict.pop(prefix + name)


def _from_plain_names(layer: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    for name, plain in _names(layer).items():
        if prefix + plain in state_dict:
            state_dict[prefix + name] = state_dict.pop(prefix + plain)
