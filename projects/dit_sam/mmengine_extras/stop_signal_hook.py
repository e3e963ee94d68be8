"""The hook that saves a checkpoint on SIGTERM, SIGINT, SIGUSR1 or SIGHUP."""

import multiprocessing
import os.path as osp
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS

from ..errors import log_warning
from ..utils import atomic_write_text
from .checkpoint_io import stream_checkpoints
from .finite_step_hook import FiniteStepHook
from .latest_checkpoint import remove_old_stops
from .optim_wrapper import has_stepped
from .ranks import end_process_group, lengths_of_ranks, run_on_rank_0

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Slurm's usual --signal=USR1@120, and the end of a terminal; Windows has neither, and Ctrl-Break.
_OTHER_SIGNALS = [getattr(signal, name) for name in ('SIGUSR1', 'SIGHUP', 'SIGBREAK') if hasattr(signal, name)]


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Finishes the step, saves a checkpoint inside the epoch, and exits with status 0, on all ranks.

    With accumulated gradients, a step is finished when the weights have changed. The checkpoint is called
    `stopped_iter_{step}.pth` and is removed when there are two newer ones. During a validation it is only saved if
    there is no checkpoint of that step yet. Ctrl-C, torchrun and Slurm also signal the data-loading processes. These
    ignore it, because the step still needs data, and are killed when the training ends. Signals have their usual effect
    before the first step of a run, when there is nothing to save, and from the third signal on. The signals are SIGTERM
    and SIGINT, and SIGUSR1 and SIGHUP unless the program or `nohup` treats them already. The hook does nothing outside
    the main thread, where Python handles no signals.

    Args:
        interval: Largest number of batches after which the ranks ask each other whether one of them was signaled, which
            makes them wait for the GPU. A single process checks after each batch. In a validation, ranks ask as long as
            all of them have batches.
        seconds: Largest time between two such exchanges, by the slowest rank, but at least one batch. torchrun kills
            ranks some time after the signal, and the checkpoint must be written by then; see docs/distributed.md.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 10, seconds: float = 5.0) -> None:
        self.interval, self.seconds = interval, seconds
        # Batches between two exchanges; the first batch shows how long one takes.
        self._gap = 1
        self._restart_count()
        # Batches of a validation that all ranks have; 0 outside a training.
        self._shared = 0
        self._in_training = False
        self._received: list[int] = []
        self._has_stepped = False
        self._saved = -1
        self._handlers: dict[int, Any] = {}
        self._loop: BaseLoop | None = None
        self._at_exit: Finalize | None = None

    def before_train(self, runner: Runner) -> None:
        """Handle signals from now on, before the data-loading processes start."""
        self._in_training, self._loop = True, runner.train_loop
        self._received, self._has_stepped = [], False
        self._restart_count()
        if threading.current_thread() is not threading.main_thread():
            log_warning('Signals are not handled: the training does not run in the main thread')
            return
        loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
        for loader in (loop.dataloader for loop in loops):
            # A second training has the loaders of the first.
            if getattr(loader.worker_init_fn, 'func', None) is not _ignore_signals:
                loader.worker_init_fn = partial(_ignore_signals, loader.worker_init_fn)
        # Called at exit, before multiprocessing sends SIGTERM to the workers and waits for them.
        self._at_exit = self._at_exit or Finalize(None, _kill_workers, exitpriority=0)
        # A shell makes background processes ignore SIGINT.
        handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        handled += [number for number in _OTHER_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        self._handlers = {number: signal.signal(number, self._receive) for number in handled}

    def after_train(self, runner: Runner) -> None:
        self._in_training, self._loop = False, None
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A training that an exception has ended does not call `after_train`.
        if not self._is_running(frame):
            self._restore_handlers()
            signal.raise_signal(number)
            return
        if self._has_stepped:
            self._received.append(number)
        if len(self._received) > 2 or not self._has_stepped:
            signal.signal(number, self._handlers[number])
            signal.raise_signal(number)

    def _is_running(self, frame: FrameType | None) -> bool:
        """Whether the training is among the callers of the interrupted code."""
        while frame is not None and frame.f_locals.get('self') is not self._loop:
            frame = frame.f_back
        return frame is not None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save and exit if any rank was signaled."""
        self._has_stepped = True
        self._batches += 1
        if not has_stepped(runner.optim_wrapper) or not self._is_signaled():
            return
        for hook in runner.hooks:
            if isinstance(hook, FiniteStepHook):
                hook.report()
        # At the last step of an epoch the epoch's own checkpoint comes next, but hooks may take long until then.
        self._save_and_exit(runner, runner.iter + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the step of a checkpoint from which a training can continue."""
        # DeepSpeed keeps its optimizer in other files; a best checkpoint has no schedules.
        if 'optimizer' in checkpoint or 'param_schedulers' in checkpoint:
            self._saved = checkpoint['meta']['iter']

    def _save_and_exit(self, runner: Runner, step: int) -> None:
        name = f'stopped_iter_{step}.pth'
        with stream_checkpoints():
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False, meta=dict(epoch=runner.epoch, iter=step))
        if is_main_process():
            atomic_write_text(osp.join(runner.work_dir, 'last_checkpoint'), osp.join(runner.work_dir, name))
            remove_old_stops(runner.work_dir)
        self._exit(step, f'{osp.join(runner.work_dir, name)} is saved')

    def before_val_epoch(self, runner: Runner) -> None:
        """Agree on the batches after which ranks ask each other; a rank with more batches would wait forever."""
        self._shared = min(lengths_of_ranks(runner.val_dataloader)) if self._in_training else 0
        self._restart_count()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Exit if any rank was signaled, during a training only."""
        if batch_idx >= self._shared:
            return
        self._batches += 1
        if not self._is_signaled():
            return
        if run_on_rank_0(lambda: self._saved == runner.iter):
            self._exit(runner.iter, 'its checkpoint is saved')
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                # The weights of the training in place of the averaged ones.
                hook.after_val_epoch(runner)
        self._save_and_exit(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Count the batches of the training again."""
        self._restart_count()

    def _restart_count(self) -> None:
        self._batches, self._since = 0, time.monotonic()

    def _is_signaled(self) -> bool:
        """Whether any rank is known to be signaled; all ranks call it together and get the same answer."""
        if get_world_size() == 1:
            return bool(self._received)
        if self._batches < self._gap:
            return False
        seconds = (time.monotonic() - self._since) / self._batches
        answer = torch.tensor([len(self._received), seconds], device=get_device())
        all_reduce(answer, 'max')
        signals, seconds = answer.tolist()
        self._gap = self.interval if seconds * self.interval <= self.seconds else max(1, int(self.seconds / seconds))
        self._restart_count()
        return signals > 0

    def _exit(self, step: int, what: str) -> None:
        name = signal.Signals(self._received[0]).name if self._received else 'a signal to another rank'
        print_log(f'Stopped by {name} after step {step}: {what}; --resume continues from there', logger='current')
        # While rank 0 still writes, a second signal must not end the other ranks.
        end_process_group(0)
        self._restore_handlers()
        sys.exit(0)


def _ignore_signals(init: Callable | None, worker: int) -> None:
    """Have a data-loading process ignore the signals; it notices by itself when its parent dies."""
    if init is not None:
        init(worker)
    for number in (*_SIGNALS, *_OTHER_SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def _kill_workers() -> None:
    """Kill the daemon processes, such as data-loading ones, which a program ends by itself only after a wait."""
    # DataLoader's handler would report a killed worker as an error.
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
