"""Steps that are not finite are not taken."""
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor

from ..errors import InputError


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """`OptimWrapper` that leaves out a step whose gradients hold NaN or infinity; see `FiniteStepHook`.

    In distributed training gradients are summed before, so that all ranks decide alike.

    Args:
        sharded: Whether every rank has a part of each gradient, as under FSDP. The norm, by which steps are judged and
            gradients are clipped, is then that of all parts; mmengine's is that of the rank's own.
        **kwargs: As in the parent.

    Attributes:
        skipped: Steps left out so far.
        skipped_in_a_row: Those since the last step that was taken.

    Raises:
        InputError: `sharded` with `clip_grad` of another kind than the 2-norm.
    """

    def __init__(self, sharded: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skipped, self.skipped_in_a_row, self.sharded = 0, 0, sharded
        if sharded and self.clip_grad_kwargs and set(self.clip_grad_kwargs) != {'max_norm'}:
            raise InputError('optim_wrapper.clip_grad of sharded gradients is dict(max_norm=...) without another key, '
                             f'got {self.clip_grad_kwargs}')

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients where asked for and step, if they are finite."""
        self._norm = self._gradient_norm()
        if not self._norm.isfinite():
            self.skipped += 1
            self.skipped_in_a_row += 1
            return
        self.skipped_in_a_row = 0
        super().step(**kwargs)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]

    def _gradient_norm(self) -> Tensor:
        """The 2-norm of all gradients: finite where every gradient is (and none is beyond 1e19)."""
        gradients = self._gradients()
        norm = torch.stack(torch._foreach_norm(gradients)).norm() if gradients else torch.zeros((), device=get_device())
        if self.sharded:
            norm = norm.square()
            all_reduce(norm)
            norm = norm.sqrt()
        return norm

    def _clip_grad(self) -> None:
        if not self.sharded:
            super()._clip_grad()
            return
        # As in torch.nn.utils.clip_grad_norm_, with the norm over all ranks.
        torch._foreach_mul_(self._gradients(), (self.clip_grad_kwargs['max_norm'] / (self._norm + 1e-6)).clamp(max=1))
        self.message_hub.update_scalar(f'train/{self.grad_name}', float(self._norm))
