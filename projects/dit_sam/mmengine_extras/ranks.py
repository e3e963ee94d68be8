"""Agreement between the ranks of a distributed run, and how they end."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import TypeVar, cast

import torch
from mmengine.dist import all_gather_object, barrier, broadcast_object_list, is_distributed, is_main_process
from mmengine.runner import Runner
from torch.utils.data import DataLoader

T = TypeVar('T')


def run_on_rank_0(function: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on all ranks, which call this together.

    If it raises an error, only rank 0 does; the other ranks exit with status 1, so that the error is reported once.
    """
    answer: list = [None, True]
    try:
        if is_main_process():
            answer = [function(), False]
    finally:
        broadcast_object_list(answer)
        if answer[1]:
            end_process_group(1)
    if answer[1]:
        sys.exit(1)
    return cast(T, answer[0])


def end_process_group(status: int) -> None:
    """Leave the process group before the program ends with `status`; all ranks call it, a single process does nothing.

    The ranks wait for each other first, because NCCL sends asynchronously.
    """
    if is_distributed():
        barrier()
        torch.distributed.destroy_process_group()
        atexit.register(_leave, status)


def _leave(status: int) -> None:
    """Run the exit functions, then end the process without the interpreter's own shutdown.

    With gloo, that shutdown aborted a third of the runs on two ranks ("terminate called without an active exception"),
    probably in a C++ thread that asks for the interpreter.
    """
    atexit.unregister(_leave)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def lengths_of_ranks(loader: DataLoader) -> set[int]:
    """The numbers of batches that the ranks have in a data loader; iteration loops allow different ones."""
    return set(all_gather_object(len(loader)))


def shared_seed(runner: Runner) -> int:
    """The seed of rank 0; all ranks call it.

    With `randomness.diff_rank_seed=True` every rank has a different seed, which would give the ranks overlapping data.
    """
    return run_on_rank_0(lambda: runner.seed)
