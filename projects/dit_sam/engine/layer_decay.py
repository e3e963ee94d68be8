"""Rates that fall from the last block of SAM's encoder to its first."""

import re
from collections.abc import Iterator

from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..errors import InputError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class SAMLayerDecayConstructor(LearningRateDecayOptimizerConstructor):
    """mmseg's layer-wise decay of the learning rate for `SAMViT` and its children.

    mmseg's constructor knows the layers of BEiT, MAE and ConvNeXt alone. Block i of n gets the rate times
    ``decay_rate ** (n - i)``, patches and position ``decay_rate ** (n + 1)``; neck, instruction, text encoder and heads
    the whole rate. Weights of one dimension are not decayed, frozen ones are left out.

    Args as in the parent; of ``paramwise_cfg`` only ``decay_rate`` must be given (``layer_decay_rate`` is the same).
    """

    def add_params(self, params: list[dict], module: nn.Module, **kwargs) -> None:
        """As in the parent.

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
        settings.setdefault('decay_rate', settings.pop('layer_decay_rate', None))
        if settings['decay_rate'] is None:
            raise InputError('optim_wrapper.paramwise_cfg lacks decay_rate, such as 0.65')
        self.paramwise_cfg = dict(settings, num_layers=module.backbone.depth, decay_type='layer_wise')
        # The parent would hand None to the optimizer, which fails at its first step.
        self.base_wd = self.base_wd or 0.0
        super().add_params(params, _NamedAsMAE(module), **kwargs)


class _NamedAsMAE:
    """A model under the names by which mmseg tells the layers of a ViT."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self.backbone = model, _MAE()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self._model.named_parameters():
            yield re.sub(r'^backbone\.blocks\.', 'backbone.layers.', name), parameter


class _MAE:
    """mmseg looks at the name of the backbone's class."""
