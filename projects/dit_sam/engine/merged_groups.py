"""Parameter groups as few as the config has settings."""

import logging

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with one group for all parameters of the same settings.

    With `paramwise_cfg` mmengine makes a group of every parameter, some 400 for ViT-B with BERT, and logs each in
    several lines. An optimizer updates group by group, so that a fused one then starts its kernel 400 times a step.
    Arguments as in the parent.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """As in the parent, which calls it for every module; merged when the whole model is through."""
        if prefix:
            super().add_params(params, module, prefix, **kwargs)
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            super().add_params(params, module, prefix, **kwargs)
        finally:
            logger.setLevel(level)
        params[:] = merged(params)
        for group in params:
            settings = ', '.join(f'{key}={value}' for key, value in group.items() if key != 'params')
            logger.info(f'{len(group["params"])} parameters train with {settings or "the settings of the optimizer"}')


def merged(groups: list[dict]) -> list[dict]:
    """One group for each of the settings that there are, in the order of the first."""
    found: dict[tuple, dict] = {}
    for group in groups:
        settings = {key: value for key, value in group.items() if key != 'params'}
        found.setdefault(tuple(sorted(settings.items())), dict(settings, params=[]))['params'] += group['params']
    return list(found.values())
