"""Constructors of optimizers: layer-wise decay of the learning rate, and merged parameter groups."""

import logging
import re
from collections.abc import Iterator
from typing import Any, cast

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..errors import InputError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SAMLayerDecayConstructor(LearningRateDecayOptimizerConstructor):
    """mmseg's layer-wise decay of the learning rate, for `SAMViT` and its subclasses.

    mmseg's constructor only knows the layers of BEiT, MAE and ConvNeXt. Block i of n gets the rate times
    `decay_rate ** (n - i)`, patch and position embedding `decay_rate ** (n + 1)`; neck, instruction, text encoder and
    heads get the full rate. One-dimensional weights have no weight decay, and frozen ones are left out.

    Arguments as in the parent; `paramwise_cfg` only needs `decay_rate` (or its old name `layer_decay_rate`).
    """

    # Set by the parent.
    paramwise_cfg: dict
    base_wd: float | None

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Add the parameters of the model to `params`.

        Raises:
            InputError: The model's backbone is not SAM's, or there is no decay rate.
        """
        names = [name for name, _ in module.named_parameters()]
        if not any(name.startswith('backbone.blocks.') for name in names):
            raise InputError(
                f'SAMLayerDecayConstructor is for the backbones SAMViT, DITViT and StandaloneDITViT, not '
                f'{type(getattr(module, "backbone", module)).__name__}'
            )
        settings = dict(self.paramwise_cfg or {})
        idle = sorted(settings.keys() - {'decay_rate', 'layer_decay_rate', 'num_layers', 'decay_type'})
        if idle:
            raise InputError(
                f'optim_wrapper.paramwise_cfg.{idle[0]} has no effect with SAMLayerDecayConstructor: leave it out, or, '
                'if a base config has it, write paramwise_cfg=dict(_delete_=True, decay_rate=...)'
            )
        settings.setdefault('decay_rate', settings.pop('layer_decay_rate', None))
        if settings['decay_rate'] is None:
            raise InputError('optim_wrapper.paramwise_cfg lacks decay_rate, such as 0.65')
        self.paramwise_cfg = dict(settings, num_layers=cast(Any, module.backbone).depth, decay_type='layer_wise')
        # The parent would pass None to the optimizer, which fails at its first step.
        self.base_wd = self.base_wd or 0.0
        super().add_params(params, _NamedAsMAE(module), **kwargs)


class _NamedAsMAE:
    """A model with the parameter names by which mmseg recognizes the layers of a ViT."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self.backbone = model, _MAE()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self._model.named_parameters():
            yield re.sub(r'^backbone\.blocks\.', 'backbone.layers.', name), parameter


class _MAE:
    """A backbone by whose class name mmseg recognizes MAE."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one parameter group for all parameters of the same settings.

    With `paramwise_cfg`, mmengine makes a group of every parameter, some 400 for ViT-B with BERT, and logs each in
    several lines. An optimizer updates group by group, so that a fused one launches 400 kernels a step. Of
    `custom_keys` only those with `lora_` count for the weights that LoRA adds: they are new, whatever part they are in.
    Arguments as in the parent.
    """

    paramwise_cfg: dict

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Add the parameters of a module; the parent calls it for each, and the last call, for the model, merges."""
        if prefix:
            settings = self.paramwise_cfg
            if '.lora_' in prefix and settings:
                keys = {key: value for key, value in settings.get('custom_keys', {}).items() if 'lora_' in key}
                self.paramwise_cfg = dict(settings, custom_keys=keys)
            try:
                super().add_params(params, module, prefix, **kwargs)
            finally:
                self.paramwise_cfg = settings
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            super().add_params(params, module, prefix, **kwargs)
        finally:
            logger.setLevel(level)
        params[:] = _merged(params)
        for group in params:
            shared = ', '.join(f'{key}={value}' for key, value in group.items() if key != 'params')
            logger.info(f'{len(group["params"])} parameters train with {shared or "the settings of the optimizer"}')


def _merged(groups: list[dict]) -> list[dict]:
    """One group for each combination of settings, in the order of first appearance."""
    found: dict[str, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        # As text: a setting may be a list.
        found.setdefault(repr(sorted(settings.items())), dict(settings, params=[]))['params'] += group['params']
    return list(found.values())
