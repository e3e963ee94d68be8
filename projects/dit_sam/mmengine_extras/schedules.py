"""Schedules after a resume with another number of steps in an epoch."""

import warnings
from itertools import chain
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..errors import log_warning


class ScheduleStartHook(Hook):
    """Brings schedules to the beginning of an epoch whose number of steps has changed since the checkpoint.

    mmengine restores them with the lengths of the checkpoint. With more steps an epoch, the learning rate would reach
    its end too early; with fewer, never. `ResumableTrainLoop` registers this hook and calls `replay`.
    """

    _built: list[tuple[Any, dict, list[dict]]] | None = None

    def before_run(self, runner: Runner) -> None:
        """Note the schedules as they are built. Runner loads a checkpoint later, and FlexibleRunner has loaded it."""
        built = _schedulers(runner)
        if any(one._global_step for one in built):
            return
        self._built = [(one, dict(one.state_dict()), _values(one)) for one in built]

    def replay(self, epochs: int, steps: int) -> None:
        """Start all schedules again and step them through `epochs` of `steps` steps, at the rates of the config."""
        built = self._built
        if built is None or any(getattr(one, 'need_val_args', False) for one, _, _ in built):
            log_warning(
                'The schedules keep the number of steps in an epoch of the checkpoint (with FSDP, DeepSpeed or '
                'ReduceOnPlateau): look at the learning rate in the log'
            )
            return
        for one, state, values in built:
            one.load_state_dict(state)
            for group, value in zip(one.optimizer.param_groups, values):
                group.update(value)
        by_epoch = [one for one, _, _ in built if one.by_epoch]
        by_step = [one for one, _, _ in built if not one.by_epoch]
        with warnings.catch_warnings():
            # The optimizer takes no steps meanwhile.
            warnings.filterwarnings('ignore', 'Detected call of `scheduler.step', UserWarning)
            for one in chain.from_iterable([*by_step * steps, *by_epoch] for _ in range(epochs)):
                one.step()


def _schedulers(runner: Runner) -> list[Any]:
    """The schedulers of all optimizers; none before they are built."""
    found: Any = runner.param_schedulers or []
    parts = found.values() if isinstance(found, dict) else [found]
    return [one for part in parts for one in part if hasattr(one, 'by_epoch')]


def _values(scheduler: Any) -> list[dict[str, float]]:
    """What a scheduler changes in each parameter group, and its initial value there."""
    names = (scheduler.param_name, f'initial_{scheduler.param_name}')
    return [{name: group[name] for name in names} for group in scheduler.optimizer.param_groups]
