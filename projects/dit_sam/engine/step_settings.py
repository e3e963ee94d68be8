"""Settings that depend on how many items a step sees, and on how many steps a training has."""

import inspect
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.logging import print_log
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import IterBasedTrainLoop

from ..errors import log_warning
from ..mmengine_extras.config_check import class_name

# The share of the initial weights in an average from which on a training is too short for it.
_SHARE_OF_START = 0.05


def follow_batch(runner: Any) -> None:
    """Scale learning rate and averaged weights by what a step sees, if `auto_scale_lr.enable` is set; else log it.

    mmengine scales the rate alone, and counts one of the batches that a step accumulates. The averaging must follow: a
    batch four times as large makes a quarter of the updates, after which the initial weights would keep a large part of
    the average. It changes the runner and not its config, which is stored and may be used again.
    """
    cfg = runner.cfg
    scale, batches = cfg.get('auto_scale_lr') or {}, (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    base, batch = scale.get('base_batch_size'), (cfg.get('train_dataloader') or {}).get('batch_size')
    if base is None or batch is None:
        return
    real, averaging = get_world_size() * batch * batches, [hook for hook in runner.hooks if isinstance(hook, EMAHook)]
    if scale.get('enable'):
        if batches != 1:
            _count_batches(runner, dict(scale, base_batch_size=base / batches), batches)
        for hook in averaging if real != base else ():
            _scale_averaging(hook, real / base)
    elif real != base:
        meant = f'the learning rate{" and the averaged weights are" if averaging else " is"} meant for {base}'
        remedy = '--cfg-options auto_scale_lr.enable=True adapts them'
        if class_name(cfg.get('strategy')).endswith('DeepSpeedStrategy'):
            remedy = 'with DeepSpeed, set optim_wrapper.optimizer.lr by hand'
        print_log(f'A step has {real} items, and {meant}: {remedy}', logger='current')


def _count_batches(runner: Any, scale: Mapping, batches: int) -> None:
    """Have mmengine scale the learning rate by all batches of a step."""
    for holder in (runner, getattr(runner, 'strategy', None)):
        for name in ('auto_scale_lr', '_auto_scale_lr'):
            if getattr(holder, name, None):
                setattr(holder, name, scale)
    print_log(f'auto_scale_lr: a step has {batches} batches, so the base batch size counts as 1/{batches}', 'current')


def _scale_averaging(hook: EMAHook, ratio: float) -> None:
    """Have averaged weights forget as much in an item as before; averages other than the exponential one stay."""
    kind = class_name(hook.ema_cfg)
    if kind != 'ExponentialMovingAverage':
        log_warning(f'auto_scale_lr: the {kind} of EMAHook stays as it is')
        return
    # A second call starts from the config's momentum again.
    before = vars(hook).setdefault('momentum_of_base', _momentum(hook))
    after = hook.ema_cfg['momentum'] = 1 - (1 - before) ** ratio
    print_log(
        f'auto_scale_lr: the momentum of EMAHook is {after:.3g}, which is 1 - (1 - {before:g})^{ratio:g}',
        logger='current',
    )


def _momentum(hook: EMAHook) -> float:
    default = inspect.signature(ExponentialMovingAverage).parameters['momentum'].default
    return hook.ema_cfg.get('momentum', default)


def warn_of_short_training(runner: Any) -> None:
    """Log averages and schedules that are meant for a longer training."""
    loop, cfg = runner.train_loop, runner.cfg
    for hook in (hook for hook in runner.hooks if isinstance(hook, EMAHook)):
        # An average that begins later has no initial weights.
        begins = hook.begin_iter or hook.begin_epoch
        # The interval counts batches, as `max_iters` does, of which a step may accumulate several.
        updates = loop.max_iters / hook.ema_cfg.get('interval', 1)
        share = (1 - _momentum(hook)) ** updates
        if class_name(hook.ema_cfg) == 'ExponentialMovingAverage' and not begins and share > _SHARE_OF_START:
            log_warning(
                f'After the {updates:,.0f} updates of this training, {share:.0%} of the averaged weights of EMAHook '
                'are still those of the start, and validation and the best checkpoint use the average: set its '
                f'momentum to about {min(1, 5 / updates):.1g}, or leave it out'
            )
    schedulers = cfg.get('param_scheduler') or ()
    for number, scheduler in enumerate(schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]):
        length, unit = (loop.max_epochs, 'epochs') if scheduler.get('by_epoch', True) else (loop.max_iters, 'steps')
        if unit == 'epochs' and isinstance(loop, IterBasedTrainLoop):
            # Its own number of epochs is 1, and an epoch of a schedule is a pass of the data loader.
            length = ceil(loop.max_iters / len(loop.dataloader))
        for key in _beyond(scheduler, length):
            log_warning(
                f'param_scheduler.{number}.{key}={scheduler[key]} of {class_name(scheduler)} is beyond the {length} '
                f'{unit} of this training: adapt it'
            )


def _beyond(scheduler: Mapping, length: int) -> Iterator[str]:
    """The settings of a scheduler that a training of this length does not reach."""
    if isinstance(scheduler.get('end'), int) and scheduler['end'] > length:
        yield 'end'
    if any(milestone >= length for milestone in scheduler.get('milestones') or ()):
        yield 'milestones'
