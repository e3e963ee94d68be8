"""Low-rank adaptation (LoRA, arXiv 2106.09685) of the encoders, by peft.

A layer W with LoRA computes W·x + (lora_alpha / r)·B·A·x. W is frozen; A and B train.
"""

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

from torch import nn

from ..errors import InputError, first_line

INSTALL = 'LoRA needs peft: pip install "dit-sam[lora]"'


def add_lora(model: nn.Module, lora: Mapping, key: str) -> None:
    """Freeze a model, and add trainable low-rank weights to the layers that `target_modules` names.

    The model's own state-dict names stay, so that its weights load as before; `NAME.lora_A.weight` and
    `NAME.lora_B.weight` join `NAME.weight`, as in peft's own files. B starts at 0, so the output does not change.

    Args:
        model: Changed in place.
        lora: Keywords of `peft.LoraConfig`, such as dict(r=8, lora_alpha=16, target_modules=['query', 'value']).
        key: The config key of `lora`, for errors.

    Raises:
        InputError: peft is not installed, `lora` has an unknown keyword or a wrong value, or it asks for adapters that
            are computed from the weights, which are loaded only later.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InputError(f'{key}: {INSTALL} ({error})') from error
    _check_targets(model, lora.get('target_modules'), key)
    if lora.get('use_dora') or lora.get('init_lora_weights', True) not in (True, 'gaussian'):
        setting = 'use_dora' if lora.get('use_dora') else 'init_lora_weights'
        raise InputError(
            f'{key}.{setting}={lora[setting]!r}: the adapters must start at no effect, and weights are loaded after '
            "them; leave use_dora out, and init_lora_weights at True or 'gaussian'"
        )
    try:
        # `bias` would train the model's own biases, and `lora_bias` would be missing where SAM pads its windows.
        config = LoraConfig(**lora, bias='none', lora_bias=False)
        model.requires_grad_(False)
        inject_adapter_in_model(config, model)
    except (TypeError, ValueError) as error:
        raise InputError(f'{key}: {first_line(error)}') from error
    for layer in _layers(model).values():
        layer.register_state_dict_post_hook(_to_plain_names)
        layer.register_load_state_dict_pre_hook(_from_plain_names)


def lora_names(model: nn.Module) -> tuple[str, ...]:
    """State-dict names of the weights that LoRA added; empty without LoRA."""
    return tuple(name for name in model.state_dict() if '.lora_' in name)


def merge_lora(model: nn.Module) -> int:
    """Replace each layer that has LoRA by a plain one with W + (lora_alpha / r)·B·A.

    Returns:
        The number of such layers.
    """
    layers = _layers(model)
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    return len(layers)


def drop_lora(part: dict) -> None:
    """Remove the settings of LoRA from the config of a model, in place."""
    part.pop('lora', None)
    for value in part.values():
        if isinstance(value, dict):
            drop_lora(value)


def _check_targets(model: nn.Module, targets: Any, key: str) -> None:
    """Refuse names that fit no layer; peft ignores them as long as another name fits."""
    modules = dict(model.named_modules())
    for target in () if isinstance(targets, str) else targets or ():
        found = [modules[name] for name in modules if f'.{name}'.endswith(f'.{target}')]
        # peft adapts no containers, such as BEiT-3's pairs of layers A and B.
        if not found or any(next(module.children(), None) is not None for module in found):
            linear = [name.split('.') for name, module in modules.items() if isinstance(module, nn.Linear)]
            layers = sorted({'.'.join(path[-2:]) if path[-1] in ('A', 'B') else path[-1] for path in linear})
            raise InputError(f'{key}.target_modules: no layer is called {target!r}; the linear layers are {layers}')


def _layers(model: nn.Module) -> dict[str, Any]:
    """The layers with LoRA (`peft.tuners.lora.LoraLayer`), by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, 'lora_A')}


def _names(layer: nn.Module) -> dict[str, str]:
    """Names of a layer's weights in peft's module, and those without the adapter's and the wrapped layer's name."""
    names = (name for name, _ in chain(layer.named_parameters(), layer.named_buffers()))
    return {name: re.sub(r'\.default(?=\.|$)', '', name.removeprefix('base_layer.')) for name in names}


def _to_plain_names(layer: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    for name, plain in _names(layer).items():
        state_dict[prefix + plain] = state_dict.pop(prefix + name)


def _from_plain_names(layer: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    for name, plain in _names(layer).items():
        if prefix + plain in state_dict:
            state_dict[prefix + name] = state_dict.pop(prefix + plain)
