"""Steps that are not finite are not taken."""
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """`OptimWrapper` that leaves out a step whose gradients hold NaN or infinity; see `FiniteStepHook`.

    In distributed training gradients are summed before, so that all ranks decide alike. Arguments as in the parent.

    Attributes:
        skipped: Steps left out so far.
        skipped_in_a_row: Those since the last step that was taken.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skipped, self.skipped_in_a_row = 0, 0

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients where asked for and step, if they are finite."""
        gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        # The sum of squares is finite where every gradient is (and none is beyond 1e19).
        if gradients and not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
            self.skipped += 1
            self.skipped_in_a_row += 1
            return
        self.skipped_in_a_row = 0
        super().step(**kwargs)
