"""The losses in the log are those of all ranks, and are read where a line of it is written."""

from math import isfinite

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ...errors import InputError
from ..guarded_optim_wrapper import GuardedOptimWrapper
from ..ranks import lengths_of_ranks


@HOOKS.register_module()
class LossLogHook(RuntimeInfoHook):
    """`RuntimeInfoHook` that logs the mean of each step's losses over the ranks; it replaces the parent.

    mmengine logs the losses of rank 0 alone, so that the curve depends on the number of ranks, and reads each of them
    in each step, for which the host waits until the GPU has finished. Here they stay where they are until `LoggerHook`
    writes its next line, or until the epoch ends; then those of all steps are averaged in one collective, read in one
    copy and handed to the log in order. The same goes for `grad_norm` of a `GuardedOptimWrapper`, which writes it
    itself without this hook. Whatever else looks into the message hub sees the losses then and not before. All ranks
    must give out the same names in a step.
    """

    def __init__(self) -> None:
        # Scalars by name, a dict a batch.
        self._waiting: list[dict[str, Tensor]] = []
        self._norm: Tensor | None = None
        # Batches after which a rank has gone through its data for the first time, and writes a line.
        self._lengths: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        """As in the parent.

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
        """Keep the values of `outputs`, scalars by name; hand over all that were kept where they are logged."""
        values = {name: torch.as_tensor(value).detach() for name, value in (outputs or {}).items()}
        wrapper = runner.optim_wrapper
        norm = wrapper.grad_norm if isinstance(wrapper, GuardedOptimWrapper) else None
        # A new one after every step, also where gradients are accumulated over several batches.
        if norm is not self._norm:
            self._norm, values = norm, dict(grad_norm=norm, **values)
        self._waiting.append(values)
        if self._is_logged(runner, batch_idx):
            self._hand_over(runner)

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

    def _hand_over(self, runner: Runner) -> None:
        batches, self._waiting = self._waiting, []
        scalars = [value.reshape(()).to(get_device(), torch.float32) for values in batches for value in values.values()]
        if not scalars:
            return
        means = torch.stack(scalars)
        all_reduce(means, op='mean')
        names = [name for values in batches for name in values]
        for name, mean in zip(names, means.tolist()):
            # The norm of a step that was left out says nothing.
            if name != 'grad_norm' or isfinite(mean):
                runner.message_hub.update_scalar(f'train/{name}', mean)
