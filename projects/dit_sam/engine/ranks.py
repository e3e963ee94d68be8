"""What rank 0 decides for all."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import TypeVar

import torch
from mmengine.dist import all_gather_object, barrier, broadcast_object_list, is_distributed, is_main_process
from mmengine.runner import Runner
from torch.utils.data import DataLoader

T = TypeVar('T')


def told_by_rank_0(look: Callable[[], T]) -> T:
    """What `look` returns on rank 0, where it runs, on all ranks; where it raises, the other ranks exit with status 1.

    So an error is told once. All ranks call it.
    """
    answer = [None, True]
    try:
        if is_main_process():
            answer = [look(), False]
    finally:
        broadcast_object_list(answer)
        if answer[1]:
            end_process_group(1)
    value, failed = answer
    if failed:
        sys.exit(1)
    return value


def end_process_group(status: int) -> None:
    """Leave the process group before the program ends. All ranks call it; a single process does nothing.

    All wait for each other first, as NCCL sends asynchronously.

    Args:
        status: Exit status of the program.
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
    """How many batches the ranks have in a data loader, which differ where an iteration loop allows it; all call it."""
    return set(all_gather_object(len(loader)))


def shared_seed(runner: Runner) -> int:
    """The seed of rank 0; all ranks call it.

    With `randomness.diff_rank_seed=True` every rank has its own, by which ranks would see overlapping parts of the
    data.
    """
    return told_by_rank_0(lambda: runner.seed)
