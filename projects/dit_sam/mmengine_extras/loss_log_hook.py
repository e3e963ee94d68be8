"""The hook that logs losses averaged over the ranks, and reads them only when a line is written."""

from math import isfinite

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..errors import InputError
from .optim_wrapper import GuardedOptimWrapper
from .ranks import lengths_of_ranks


@HOOKS.register_module()
class LossLogHook(RuntimeInfoHook):
    """`RuntimeInfoHook` that logs each step's losses as means over the ranks; it replaces the parent.

    mmengine logs the losses of rank 0 only, so that the curve depends on the number of ranks. It also reads them in
    every step, which makes the host wait for the GPU. Here the losses stay on the GPU until `LoggerHook` writes its
    next line, or until the epoch ends. Then those of all steps are averaged in one collective, copied once and logged
    in order. The same holds for `grad_norm` of a `GuardedOptimWrapper`, which logs it itself without this hook. Other
    readers of the message hub see the losses only then. All ranks must have the same names of losses in a step.
    """

    def __init__(self) -> None:
        # The values of each batch by name.
        self._waiting: list[dict[str, Tensor]] = []
        self._norm: Tensor | None = None
        # The numbers of batches after which some rank ends its epoch, and writes a line.
        self._lengths: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        """Take over the logging of losses.

        Raises:
            InputError: The run has another `RuntimeInfoHook`, and each loss would be logged twice.
        """
        other = next((hook for hook in runner.hooks if isinstance(hook, RuntimeInfoHook) and hook is not self), None)
        if other is not None:
            raise InputError(
                f'LossLogHook and {type(other).__name__} would each log the losses: set '
                "default_hooks.runtime_info=dict(type='LossLogHook') and leave out the other"
            )
        super().before_train(runner)
        self._lengths = lengths_of_ranks(runner.train_dataloader)
        if isinstance(runner.optim_wrapper, GuardedOptimWrapper):
            runner.optim_wrapper.writes_norm = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Keep the scalars in `outputs`, and log all that were kept if a line is written."""
        values = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items()}
        wrapper = runner.optim_wrapper
        norm = wrapper.grad_norm if isinstance(wrapper, GuardedOptimWrapper) else None
        # Each step makes a new one; a step may take several batches.
        if norm is not None and norm is not self._norm:
            self._norm, values = norm, dict(grad_norm=norm, **values)
        self._waiting.append(values)
        if self._is_logged(runner, batch_idx):
            self._log(runner)

    def _is_logged(self, runner: Runner, batch_idx: int) -> bool:
        """Whether some rank may write a line; the same on all ranks."""
        return (
            batch_idx + 1 in self._lengths
            or self.is_last_train_iter(runner)
            or any(
                self.every_n_inner_iters(batch_idx, hook.interval)
                for hook in runner.hooks
                if isinstance(hook, LoggerHook)
            )
        )

    def _log(self, runner: Runner) -> None:
        batches, self._waiting = self._waiting, []
        values = [(name, value) for batch in batches for name, value in batch.items()]
        if not values:
            return
        means = torch.stack([value.reshape(()).to(get_device(), torch.float32) for _, value in values])
        all_reduce(means, op='mean')
        for (name, _), mean in zip(values, means.tolist()):
            # The norm of a skipped step is meaningless.
            if name != 'grad_norm' or isfinite(mean):
                runner.message_hub.update_scalar(f'train/{name}', mean)
