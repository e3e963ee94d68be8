"""What rank 0 decides for all."""
import sys
from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import all_gather_object, barrier, broadcast_object_list, is_main_process
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
            # NCCL sends beside the program, which ends now.
            barrier()
    value, failed = answer
    if failed:
        sys.exit(1)
    return value


def lengths_of_ranks(loader: DataLoader) -> set[int]:
    """How many batches the ranks have in a data loader, which differ where an iteration loop allows it; all call it."""
    return set(all_gather_object(len(loader)))


def shared_seed(runner: Runner) -> int:
    """The seed of rank 0; all ranks call it.

    With `randomness.diff_rank_seed=True` every rank has its own, by which ranks would see overlapping parts of the
    data.
    """
    return told_by_rank_0(lambda: runner.seed)
