"""SIGTERM and SIGINT end a training with a checkpoint."""

import logging
import multiprocessing
import os.path as osp
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.util import Finalize

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..atomic_local_backend import checkpoints_straight_to_disk
from ..guarded_optim_wrapper import has_stepped
from ..latest_checkpoint import remove_old_stops
from ..ranks import end_process_group
from .finite_step_hook import FiniteStepHook

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Finish the step, save a checkpoint inside the epoch, and exit with status 0, on all ranks.

    Where gradients are accumulated, a step is finished when the weights have changed. The checkpoint is called
    `stopped_iter_{step}.pth`, and goes when two newer ones are there. In a validation nothing is saved, as the
    checkpoint of its epoch is written already. Ctrl-C, torchrun and Slurm also signal the processes that load data;
    these ignore it, as the step still needs data, and are killed when the training ends. A third signal, and one before
    the first step of a run is done, when there is nothing to save, do what they do without this hook. In a thread,
    where Python handles no signals, the hook does nothing.

    Args:
        interval: Several ranks ask each other whether one was told, for which they wait for the GPU; one process looks
            at each batch. From one question to the next there are at most so many batches, and those that end an
            accumulated step. In a validation, ranks ask as long as all of them have batches.
        seconds: They ask sooner where so many batches of the slowest rank would take longer than this, but not within
            a batch. torchrun gives ranks 30 s from the signal to their end, and the checkpoint must be written in them.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int = 10, seconds: float = 5.0) -> None:
        self.interval, self.seconds = interval, seconds
        # Batches from one question to the next; the first batch tells how long one takes.
        self._gap = 1
        self._begin_to_count()
        # Batches of a validation that all ranks have; 0 where there is no training around it.
        self._shared = 0
        self._in_training = False
        self._received: list[int] = []
        self._has_stepped = False
        self._handlers: dict[int, object] = {}

    def before_train(self, runner: Runner) -> None:
        """Begin to listen, before the processes that load data begin."""
        self._in_training = True
        self._begin_to_count()
        if threading.current_thread() is not threading.main_thread():
            print_log(
                'Signals are not handled: the training does not run in the main thread',
                logger='current',
                level=logging.WARNING,
            )
            return
        loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
        for loader in (loop.dataloader for loop in loops):
            loader.worker_init_fn = partial(_ignore_signals, loader.worker_init_fn)
        # Called at exit, before multiprocessing sends a SIGTERM and waits for them.
        Finalize(None, _kill_workers, exitpriority=0)
        # A shell has the programs that it starts in the background ignore SIGINT.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, self._listen) for number in heard}

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        self._in_training = False
        self._stop_listening()

    def _stop_listening(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _listen(self, number: int, frame: object) -> None:
        if self._has_stepped:
            self._received.append(number)
        if len(self._received) > 2 or not self._has_stepped:
            signal.signal(number, self._handlers[number])
            signal.raise_signal(number)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save and exit where any rank was told to."""
        self._has_stepped = True
        self._batches += 1
        if not has_stepped(runner.optim_wrapper) or not self._is_told():
            return
        for hook in runner.hooks:
            if isinstance(hook, FiniteStepHook):
                hook.look()
        # At the last step of an epoch the epoch's own checkpoint comes next, but hooks may take long until then.
        name = f'stopped_iter_{runner.iter + 1}.pth'
        with checkpoints_straight_to_disk():
            runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
        if is_main_process():
            with open(osp.join(runner.work_dir, 'last_checkpoint'), 'w') as file:
                file.write(osp.join(runner.work_dir, name))
            remove_old_stops(runner.work_dir)
        self._exit(runner.iter + 1, f'{osp.join(runner.work_dir, name)} is saved')

    def before_val_epoch(self, runner: Runner) -> None:
        """Agree on how many batches of the validation to ask in: a rank that has more would ask alone, and wait."""
        self._shared = 0
        self._begin_to_count()
        if self._in_training:
            batches = torch.tensor(len(runner.val_dataloader), device=get_device())
            all_reduce(batches, 'min')
            self._shared = int(batches)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None
    ) -> None:
        """Exit where any rank was told to, during a training only."""
        if batch_idx >= self._shared:
            return
        self._batches += 1
        if self._is_told():
            self._exit(runner.iter, 'the checkpoint of the epoch is saved')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Count the batches of the training again."""
        self._begin_to_count()

    def _begin_to_count(self) -> None:
        """Count batches, and their time, from here."""
        self._batches, self._since = 0, time.monotonic()

    def _is_told(self) -> bool:
        """Whether any rank was told to stop, as far as it is known; all ranks call it together and get one answer."""
        if get_world_size() == 1:
            return bool(self._received)
        if self._batches < self._gap:
            return False
        seconds = (time.monotonic() - self._since) / self._batches
        answer = torch.tensor([len(self._received), seconds], device=get_device())
        all_reduce(answer, 'max')
        told, seconds = answer.tolist()
        self._gap = self.interval if seconds * self.interval <= self.seconds else max(1, int(self.seconds / seconds))
        self._begin_to_count()
        return told > 0

    def _exit(self, step: int, what: str) -> None:
        name = signal.Signals(self._received[0]).name if self._received else 'a signal to another rank'
        print_log(f'Stopped by {name} after step {step}: {what}; --resume goes on from there', logger='current')
        self._stop_listening()
        end_process_group(0)
        sys.exit(0)


def _ignore_signals(begin: Callable | None, worker: int) -> None:
    """Begin a data-loading process as `begin` does, deaf to the signals; it notices by itself when its parent dies."""
    if begin is not None:
        begin(worker)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _kill_workers() -> None:
    """End the processes that a program ends with itself; data-loading ones are such."""
    # DataLoader's handler takes a worker that is killed for an error.
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
