"""Checks of a run before its first step: settings that are valid one by one but cannot work together."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence, Sized
from fnmatch import fnmatch
from typing import Any, cast

import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.registry import DATA_SAMPLERS, LOOPS, MODELS
from torch.utils.data import DataLoader

from ..errors import InputError
from .config_check import class_name, is_ours, nested_values

# By dotted name: whether the number is an integer, the least value, and a hint.
LIMITS = {
    '*_dataloader.batch_size': (True, 1, ''),
    '*_dataloader.num_workers': (True, 0, ''),
    'train_cfg.max_epochs': (True, 1, ''),
    'train_cfg.max_iters': (True, 1, ''),
    'train_cfg.val_interval': (
        True,
        1,
        '; to train without validation set val_cfg, val_dataloader and val_evaluator to None',
    ),
    'default_hooks.logger.interval': (True, 1, ''),
    'default_hooks.checkpoint.interval': (True, 1, '; -1 saves only the best'),
    'default_hooks.finite_step.interval': (True, 1, ''),
    'default_hooks.stop_signal.interval': (True, 1, ''),
    'default_hooks.stop_signal.seconds': (False, 0, ''),
    'optim_wrapper.accumulative_counts': (True, 1, ''),
    'optim_wrapper.optimizer.lr': (False, 0, ''),
    'optim_wrapper.optimizer.weight_decay': (False, 0, ''),
    'auto_scale_lr.base_batch_size': (True, 1, ''),
}
EXCEPTIONS = [('default_hooks.checkpoint.interval', -1)]
# The variables that each launcher sets for its processes, and how to start it.
LAUNCHERS = dict(
    pytorch=(('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'tools/dist_train.sh CONFIG GPUS (torchrun)'),
    slurm=(('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'), 'tools/slurm_train.sh PARTITION JOB CONFIG'),
    mpi=(('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK', 'MASTER_ADDR'), 'mpirun'),
)
# DataLoader refuses other values without worker processes.
WITHOUT_WORKERS = dict(persistent_workers=False, prefetch_factor=None, multiprocessing_context=None, timeout=0)


def check_run(cfg: Config, source: str) -> None:
    """Refuse settings with which a run would fail, have nothing to do, or never end.

    Args:
        cfg: A config that has passed `check_config`.
        source: What to call it in errors.

    Raises:
        InputError: It names the key.
    """
    for problem in _problems(cfg):
        raise InputError(f'{source}: {problem}')


def _problems(cfg: Config) -> Iterator[str]:
    for name, value in nested_values(dict(cfg.items())):
        if isinstance(value, Mapping):
            continue
        for pattern, (whole, least, hint) in LIMITS.items():
            if fnmatch(name, pattern) and not _is_number(value, whole, least) and (name, value) not in EXCEPTIONS:
                yield f'{name}={value!r} must be a {"whole " if whole else ""}number of at least {least}{hint}'
        if fnmatch(name, '*_dataloader.*.indices') and value in (0, [], ()):
            yield f'{name}={value!r} leaves no items: leave it out for all of them'
    yield from _loader_problems(cfg)
    yield from _step_problems(cfg)
    yield from _shard_problems(cfg)
    backbone = class_of(MODELS, (cfg.get('model') or {}).get('backbone'))
    if 'backbone' in (cfg.get('activation_checkpointing') or ()) and backbone is not None and is_ours(backbone):
        # mmengine's recomputation gives a part no gradient if its input, the image, has none, and takes no keywords.
        yield (
            f"activation_checkpointing=['backbone'] does not work with {backbone.__name__}: set "
            'model.backbone.with_cp=True in its place'
        )


def _step_problems(cfg: Config) -> Iterator[str]:
    """Problems of what belongs to a step: its rate, and the batches that it accumulates."""
    scale = cfg.get('auto_scale_lr') or {}
    if scale.get('enable') and 'base_batch_size' not in scale:
        yield (
            'auto_scale_lr.enable=True needs auto_scale_lr.base_batch_size, the batch of all ranks for which '
            'optim_wrapper.optimizer.lr is meant'
        )
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if checkpoint.get('by_epoch') is False and checkpoint.get('interval', -1) > 0 and checkpoint['interval'] % counts:
        yield (
            f'default_hooks.checkpoint.interval={checkpoint["interval"]} would save inside a step of '
            f'optim_wrapper.accumulative_counts={counts} batches, whose gradients a checkpoint does not hold: take a '
            f'multiple of {counts}'
        )
    for key, hook in _hooks(cfg, 'EarlyStoppingHook'):
        known = (*EarlyStoppingHook._default_greater_keys, *EarlyStoppingHook._default_less_keys)
        if 'rule' not in hook and not any(part.lower() in str(hook.get('monitor')).lower() for part in known):
            yield f"{key}.monitor={hook.get('monitor')!r} needs a rule: set {key}.rule to 'greater' or 'less'"
    for key, hook in _hooks(cfg, 'EMAHook'):
        interval = hook.get('interval', 1)
        if _is_number(interval, True, 1) and interval % counts:
            yield (
                f'{key}.interval={interval} counts batches, and optim_wrapper.accumulative_counts={counts} of them '
                f'make a step: take {math.ceil(interval / counts) * counts}, or another multiple of {counts}'
            )


def _hooks(cfg: Config, kind: str) -> Iterator[tuple[str, Mapping]]:
    """The hooks of a class in a config, by dotted name."""
    for section in ('default_hooks', 'custom_hooks'):
        hooks = cfg.get(section) or {}
        for key, hook in hooks.items() if isinstance(hooks, Mapping) else enumerate(hooks):
            if class_name(hook) == kind:
                yield f'{section}.{key}', hook


def _loader_problems(cfg: Config) -> Iterator[str]:
    for name in [key for key in cfg.keys() if key.endswith('_dataloader')]:
        if (cfg[name] or {}).get('drop_last') and 'batch_sampler' in cfg[name]:
            yield (
                f'{name}.drop_last=True does not work with {name}.batch_sampler, which makes the batches: leave it out'
            )
    kind = class_of(DATA_SAMPLERS, (cfg.get('train_dataloader') or {}).get('sampler'))
    loop = cfg.get('train_cfg') or {}
    by_epoch = 'max_epochs' in loop and class_of(LOOPS, loop) is not LOOPS.get('IterBasedTrainLoop')
    if by_epoch and isinstance(kind, type) and issubclass(kind, InfiniteSampler):
        yield (
            f'train_dataloader.sampler.type={kind.__name__} never ends an epoch: take ResumableSampler, or an '
            'IterBasedTrainLoop with max_iters'
        )


def check_shards(cfg: Config) -> None:
    """Refuse what does not work with shards, such as wrappers that clip or skip steps by a rank's own part.

    Raises:
        InputError: It names the key and the remedy.
    """
    for problem in _shard_problems(cfg):
        raise InputError(problem)


def _shard_problems(cfg: Config) -> Iterator[str]:
    wrapper = cfg.get('optim_wrapper') or {}
    # Clipping by value is the same in a shard and in the whole.
    clips = bool(wrapper.get('clip_grad')) and wrapper['clip_grad'].get('type', 'norm') == 'norm'
    strategy = class_name(cfg.get('strategy'))
    if strategy.endswith('DeepSpeedStrategy') and (cfg.get('auto_scale_lr') or {}).get('enable'):
        yield (
            'auto_scale_lr.enable=True has no effect with DeepSpeed: leave it out, and set optim_wrapper.optimizer.lr '
            'for your batch'
        )
    for key, _ in _hooks(cfg, 'EMAHook') if strategy.endswith(('DeepSpeedStrategy', 'FSDPStrategy')) else ():
        # With FSDP it would fail on one rank at the first checkpoint, and the others would wait.
        remedy = "custom_hooks='[]' leaves it out" if key.startswith('custom_hooks') else f'{key}=None leaves it out'
        yield f"{key}: mmengine's EMAHook does not work with {strategy}: --cfg-options {remedy}"
    if not strategy.endswith('FSDPStrategy'):
        return
    for name in (name for name, value in nested_values(dict(cfg.items())) if name.endswith('.lora') and value):
        yield f'{name} does not work with FSDP, which could not save the weights: train without shards'
    settings = wrapper.get('paramwise_cfg') or {}
    constructor = class_name(dict(type=wrapper.get('constructor')))
    if constructor == 'SAMLayerDecayConstructor' or 'flat_decay_mult' in settings:
        yield (
            'weights in shards of FSDP have one dimension, and SAMLayerDecayConstructor and paramwise_cfg.'
            'flat_decay_mult would take all of them for norms and biases, without weight decay: train without shards'
        )
    if (class_name(wrapper) or 'OptimWrapper') == 'OptimWrapper' and clips:
        yield (
            "optim_wrapper.type=OptimWrapper clips by the norm of each rank's own part of the gradients: with FSDP "
            'take GuardedOptimWrapper'
        )
    if class_name(wrapper) == 'AmpOptimWrapper' and (clips or not wrapper.get('use_fsdp')):
        yield (
            'optim_wrapper.type=AmpOptimWrapper, which --amp takes on GPUs before Ampere, judges and clips a step '
            "by each rank's own part of the gradients and so does not work with FSDP: train without --amp, or without "
            'shards'
        )


def _is_number(value: Any, whole: bool, least: int) -> bool:
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and value >= least


def class_of(registry: Any, part: Any) -> Any:
    """The class named by the `type` of a config; None if there is none."""
    kind = part.get('type') if isinstance(part, Mapping) else None
    return registry.get(kind) if isinstance(kind, str) else kind


def check_launcher(launcher: str) -> None:
    """Raise an `InputError` if a variable of the launcher is missing, which then did not start this process."""
    names, command = LAUNCHERS.get(launcher, ((), ''))
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise InputError(
            f'--launcher {launcher}: {missing[0]} is not set; start with {command}, which passes '
            '--launcher itself, or leave the option out to run one process'
        )


def drop_idle_settings(cfg: Config) -> None:
    """Reset settings of data loaders that need workers if there are none, and pinned memory without a GPU."""
    for key, loader in cfg.items():
        if key.endswith('_dataloader') and isinstance(loader, dict):
            idle = {} if loader.get('num_workers') else WITHOUT_WORKERS
            idle = idle if torch.cuda.is_available() else dict(idle, pin_memory=False)
            loader.update({name: value for name, value in idle.items() if name in loader})


def check_training(runner: Runner) -> None:
    """Build the loops of a training, and refuse one without data or with a score that is not reported.

    mmengine detects these by a failed assertion, after the first epoch, or never.

    Raises:
        InputError: A data loader gives no batch, ranks would have epochs of unequal lengths, or `save_best` or a
            `monitor` names no score. All ranks raise it.
    """
    batches = check_loader(runner.train_loop.dataloader, 'train_dataloader')
    if isinstance(runner.train_loop, EpochBasedTrainLoop) and len(set(batches)) > 1:
        raise InputError(
            f'train_dataloader gives the ranks {", ".join(map(str, batches))} batches an epoch, and those '
            'with more would wait for the others without end: leave out round_up=False of its sampler'
        )
    if runner.val_loop is not None:
        check_loader(runner.val_loop.dataloader, 'val_dataloader')
        check_scores(runner)


def check_loader(loader: DataLoader, name: str) -> list[int]:
    """The numbers of batches of the ranks in a data loader; all ranks call it.

    Raises:
        InputError: The data set has no items, or is for training in a validation or test, or a rank has no batch.
    """
    dataset = cast(Sized, loader.dataset)
    ours = [one for one in _leaves(dataset) if any(map(is_ours, type(one).__mro__))]
    if name != 'train_dataloader' and not all(one.test_mode for one in ours):
        raise InputError(
            f'{name}.dataset lacks test_mode=True: it would give a random sentence of each reference, another one in '
            'every run'
        )
    items, batches = len(dataset), all_gather_object(len(loader))
    if not items:
        raise InputError(f'{name}.dataset has no items: look at its split, indices and filter_cfg')
    if not any(batches):
        raise InputError(
            f'{name} gives no batch: batch_size={loader.batch_size} and drop_last=True leave nothing of '
            f'{items} items on {get_world_size()} rank(s); lower {name}.batch_size'
        )
    if not all(batches):
        raise InputError(
            f'{name} gives rank {batches.index(0)} no batch of its {items} items: start fewer ranks, or '
            'leave out round_up=False of its sampler'
        )
    return batches


def _leaves(dataset: Any) -> Iterator[Any]:
    """The data sets in wrappers such as ConcatDataset."""
    inner = getattr(dataset, 'datasets', None) or ([dataset.dataset] if hasattr(dataset, 'dataset') else [])
    for one in inner:
        yield from _leaves(one)
    if not inner and hasattr(dataset, 'test_mode'):
        yield dataset


def names_of_scores(metrics: Sequence[Any], name: str) -> list[str]:
    """The scores that metrics are known to report; `InputError` if two report one, naming the evaluator."""
    names = [each for metric in metrics if hasattr(metric, 'score_names') for each in metric.score_names()]
    # mmseg's own metric has no `score_names`.
    others = [one for one in metrics if type(one).__name__ == 'IoUMetric' and not one.prefix]
    names += ['mIoU'] if any('mIoU' in one.metrics for one in others) else []
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice:
        raise InputError(f'several metrics of {name} report {twice}: give all but one a prefix')
    return names


def check_scores(runner: Runner) -> None:
    """Raise an `InputError` if two metrics report one score, or the run uses a score that no metric reports.

    A metric tells its scores by `score_names()`, a list; one without it may report any. `SafeCheckpointHook` refuses an
    unknown `save_best` after the first validation then.
    """
    metrics = runner.val_loop.evaluator.metrics
    names = names_of_scores(metrics, 'val_evaluator')
    if not all(hasattr(metric, 'score_names') for metric in metrics):
        return
    for setting, wanted in _wanted(runner):
        if wanted not in names:
            # Listing the groups takes time, so only if one is used.
            groups = [
                name
                for metric in metrics
                if hasattr(metric, 'group_names') and '/' in wanted
                for name in metric.group_names(runner.val_loop.dataloader.dataset)
            ]
            if wanted not in groups:
                raise InputError(
                    f'{setting}={wanted!r} is not a score of val_evaluator, which reports '
                    f'{", ".join(names + groups)}; name one of these'
                )


def _wanted(runner: Runner) -> Iterator[tuple[str, str]]:
    """The settings that name a score, with the score."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            best = [hook.save_best] if isinstance(hook.save_best, str) else hook.save_best or []
            yield from (('default_hooks.checkpoint.save_best', name) for name in best if name != 'auto')
        elif isinstance(hook, EarlyStoppingHook):
            yield 'monitor of EarlyStoppingHook', hook.monitor
    schedulers = runner.cfg.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        if isinstance(scheduler, Mapping) and 'monitor' in scheduler:
            yield f'monitor of {scheduler["type"]}', scheduler['monitor']
