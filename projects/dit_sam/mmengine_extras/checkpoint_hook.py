"""The checkpoint hook: files that survive a crash, load safely, and are checked against the model."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..errors import InputError, log_warning
from ..utils import own_names, state_dict_mismatch
from ..utils.checkpoints import CheckpointError, key_of_weights
from .checkpoint_io import DeferredRemovalBackend, drop_config, stream_checkpoints
from .latest_checkpoint import remove_old_stops
from .ranks import run_on_rank_0

_PLAIN = (bool, int, float, complex, str, bytes, type(None), Tensor, torch.dtype, torch.device, torch.Size)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """`CheckpointHook` that loses nothing in a crash, writes what safe loading reads, and checks what is loaded.

    Writing: mmengine removes the oldest checkpoint and the previous best one before it writes. Here old files are
    removed after the new one is on the disk, and a checkpoint is written without a copy of it in memory.

    Content: mmengine stores its log histories as `HistoryBuffer` objects and scores as numpy scalars. Safe loading, the
    default since torch 2.6, refuses both, so that mmengine (0.10.7) cannot resume from its own checkpoints. The
    histories only smooth logged values and are left out; everything else is kept by value. The scores of a validation
    are stored as `scores` in the message hub's `runtime_info`, with their epoch.

    Loading: mmengine loads the weights that fit, warns about the others and continues; a test then scores weights that
    are partly random. Here weights that do not fit end the run.

    Args:
        strict_load: Whether all weights of a checkpoint must fit the model. False is for a training that starts from
            weights which fit in part: `--cfg-options default_hooks.checkpoint.strict_load=False`.
        **kwargs: As in the parent: `interval`, `by_epoch`, `max_keep_ckpts`, `save_best`, `rule` and others.
    """

    # After hooks such as EMAHook have put their part into the checkpoint.
    priority = 'LOWEST'
    file_backend: Any = None

    def __init__(self, *args: Any, strict_load: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.strict_load = strict_load
        # The epoch whose scores the last checkpoint has.
        self._scored: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Have weights checked before hooks such as EMAHook load them."""
        if not _is_checked_early(runner):
            # A new list: mmengine is iterating over the old one.
            runner._hooks = [_EarlyCheck(self), *runner._hooks]

    def before_train(self, runner: Runner) -> None:
        """Prepare the writing of checkpoints. Only files of this work dir are replaced.

        The best checkpoint is recorded with its path, and the training may continue one of another work dir.
        """
        super().before_train(runner)
        best: str | None = getattr(self, 'best_ckpt_path', None)
        if best is not None:
            self.best_ckpt_path = self._in_out_dir(best)
        for name, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[name] = self._in_out_dir(path)
        # For the scores of a validation that comes first.
        self.last_ckpt = self._in_out_dir(self._name_of(runner))
        self.file_backend = DeferredRemovalBackend(self.file_backend)
        _copy_optimizer_state(runner.optim_wrapper)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Note the scores, then save the best checkpoint.

        Raises:
            InputError: `save_best` names a score that the validation did not report.
        """
        unknown = [name for name in self.save_best or [] if name != 'auto' and metrics and name not in metrics]
        if unknown:
            raise InputError(
                f'default_hooks.checkpoint.save_best={unknown[0]!r} is not a score of this validation, which reported '
                f'{", ".join(metrics)}: set it to one of these, or to None'
            )
        scores = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
        runner.message_hub.update_info('scores', dict(scores, epoch=runner.epoch))
        # A validation without a training saves nothing; mmengine's hook would fail.
        if self.file_backend is None:
            return
        with stream_checkpoints():
            super().after_val_epoch(runner, metrics)
        self._remove_old()
        self._add_last_scores(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace, in place, what safe loading would refuse."""
        if runner.message_hub.runtime_info.get('loop_stage') == 'val':
            # mmengine's FlexibleRunner counts one epoch too many after a validation.
            checkpoint['meta'].update(epoch=runner.epoch, iter=runner.iter)
        # mmengine's `time` is local, and the next run may be in another time zone.
        checkpoint['meta']['saved'] = time.time()
        hub = checkpoint.get('message_hub')
        if hub is not None:
            resumed = {key: value for key, value in hub['resumed_keys'].items() if key in hub['runtime_info']}
            checkpoint['message_hub'] = {**hub, 'log_scalars': OrderedDict(), 'resumed_keys': resumed}
        # State dicts hold tensors, and their OrderedDict has module versions as an attribute.
        for key in [key for key in checkpoint if not key.endswith('state_dict')]:
            checkpoint[key] = to_plain(checkpoint[key], key)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights, if a program loads them outside a run; FlexibleRunner loads before it starts the run."""
        if not _is_checked_early(runner):
            self.check_weights(runner, checkpoint)

    def check_weights(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the weights of a checkpoint with those of the model, and give them the model's own names.

        Raises:
            CheckpointError: Weights are missing, unknown, of another shape or type, or not finite; all are listed.
        """
        drop_config(checkpoint)
        model = runner.model
        # A model for test-time augmentation has no own weights; mmengine unwraps it too.
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        _translate(model, checkpoint)
        if not self.strict_load:
            return
        if isinstance(runner.model, FullyShardedDataParallel):
            # Its modules have shards. The whole weights are gathered on rank 0.
            expected = runner.model.state_dict()
            mismatch = run_on_rank_0(lambda: _mismatch(expected, checkpoint))
        else:
            mismatch = _mismatch(model, checkpoint)
        if mismatch:
            remedy = 'to train from the weights that fit, set default_hooks.checkpoint.strict_load=False'
            raise CheckpointError(f'the checkpoint and the config belong to different models: {mismatch}; {remedy}')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with stream_checkpoints():
            super()._save_checkpoint_with_step(runner, step, meta)
        self._scored = runner.message_hub.runtime_info.get('scores', {}).get('epoch')
        self._remove_old()
        if is_main_process():
            remove_old_stops(runner.work_dir, self.out_dir, self.filename_tmpl)

    def _add_last_scores(self, runner: Runner) -> None:
        """Write the last checkpoint of a training again if it lacks its scores; a new start would validate again."""
        loop = runner.train_loop
        is_last = isinstance(loop, EpochBasedTrainLoop) and runner.epoch == loop.max_epochs
        is_saved = self.last_ckpt is not None and PurePath(self.last_ckpt).name == self._name_of(runner)
        if is_last and is_saved and self._scored != runner.epoch:
            step = runner.epoch if self.by_epoch else runner.iter
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def _name_of(self, runner: Runner) -> str:
        """The name of the checkpoint of the state after an epoch."""
        return self.filename_tmpl.format(runner.epoch if self.by_epoch else runner.iter)

    def _in_out_dir(self, path: str | None) -> str | None:
        """The file of that name in the folder of this training; None if there is none."""
        found = self.file_backend.join_path(self.out_dir, PurePath(path).name) if path else None
        return found if found and self.file_backend.exists(found) else None

    def _remove_old(self) -> None:
        """Remove the files that newer ones have replaced."""
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.flush({self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best})


class _EarlyCheck(Hook):
    """Calls `check_weights` of a checkpoint hook before any other hook sees the checkpoint."""

    def __init__(self, hook: SafeCheckpointHook) -> None:
        self.hook = hook

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.hook.check_weights(runner, checkpoint)


def _is_checked_early(runner: Runner) -> bool:
    return any(isinstance(hook, _EarlyCheck) for hook in runner.hooks)


def _translate(model: nn.Module, checkpoint: dict) -> None:
    """Put the weights of another program's checkpoint, under the model's own names, where mmengine looks for them."""
    if not isinstance(checkpoint, dict):
        return
    key = key_of_weights(checkpoint)
    weights = checkpoint if key is None else checkpoint[key]
    # EMAHook takes the names of `state_dict` as they are, and loads what fits. mmengine's own dict has versions of
    # modules as an attribute, and stays.
    if key != 'state_dict' or any(str(name).startswith('module.') for name in weights):
        weights = {
            str(name).removeprefix('module.'): value for name, value in weights.items() if isinstance(value, Tensor)
        }
    checkpoint['state_dict'] = own_names(model, weights)


def _mismatch(expected: nn.Module | Mapping[str, Tensor], checkpoint: dict) -> str:
    """How the weights of a checkpoint differ from those that a model expects; '' if they fit."""
    weights = checkpoint.get('state_dict', {}) if isinstance(checkpoint, Mapping) else {}
    return state_dict_mismatch(expected, {name: value for name, value in weights.items() if isinstance(value, Tensor)})


def _copy_optimizer_state(wrapper: Any) -> None:
    """Copy the optimizer's state on the CPU, which after resuming is in the mapped file of the checkpoint.

    A removed file keeps its space on the disk while it is mapped, and overwriting it would change the training.
    """
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    states = [state for each in wrappers if isinstance(each, OptimWrapper) for state in each.optimizer.state.values()]
    for state in states:
        state.update({key: value.clone() for key, value in state.items() if _is_on_cpu(value)})


def _is_on_cpu(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == 'cpu'


def to_plain(value: Any, name: str = 'value') -> Any:
    """Rebuild a nested structure from plain Python values and the same tensor objects.

    numpy values, paths and subclasses of containers are converted. An object of any other class becomes None, with a
    warning that calls it `name`.
    """
    if type(value) in _PLAIN or isinstance(value, Tensor):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return to_plain(value.tolist(), name)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((to_plain(key, name), to_plain(item, f'{name}.{key}')) for key, item in value.items())
    for container in (list, tuple, set):
        if isinstance(value, container):
            return container(to_plain(item, f'{name}[{index}]') for index, item in enumerate(value))
    for scalar in (bool, int, float, str):
        if isinstance(value, scalar):
            return scalar(value)
    log_warning(
        f'{name} is saved as None in the checkpoint: safe loading would refuse an object of '
        f'{type(value).__module__}.{type(value).__qualname__}'
    )
    return None
