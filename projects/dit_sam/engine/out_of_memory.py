"""Errors of memory that ran out, and what can be turned down."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from ..errors import InputError

# What the allocators of torch (GPU, CPU, cuDNN, cuBLAS, NCCL) say.
_ON_DEVICE = re.compile(r"out of memory|can't allocate memory|not enough memory|_STATUS_ALLOC_FAILED", re.IGNORECASE)
# What torch's DataLoader says of its processes (DataLoader.cpp, dataloader.py; faults of programs are none of memory),
# and what its allocator says of the files by which they send tensors (MapAllocator.cpp), whose names begin so. Triton
# calls a part of the GPU shared memory too.
_IN_WORKER = re.compile(
    r'DataLoader worker \(pid \d+\) is killed by signal: (?!Segmentation fault|Illegal|Floating)'
    r'|DataLoader worker \(pid\(s\) [\d, ]+\) exited unexpectedly'
    r'|unable to [^<]*</?torch_\d+[^>]*>(?!.*Too many open files)'
    r'|Caught \w+ in DataLoader worker process (?=.*(can\'t allocate memory|not enough memory))',
    re.DOTALL,
)
_AMOUNT = re.compile(r'tried to allocate ([\d.]+ ?\w+)', re.IGNORECASE)
_NAMES = dict(train='training', val='validation', test='testing')


@contextmanager
def out_of_memory_advice(cfg: Config, run: str) -> Iterator[None]:
    """Turn errors of memory that ran out in a run of `cfg` into an `InputError` that says what to turn down.

    Args:
        cfg: The config of the run; what it has turned down already is left out.
        run: 'train' or 'test'. A validation in a training is found out.

    Raises:
        InputError: Memory ran out, on the device or in a data-loading process.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # A process that is gone is told beside the signal that ended it.
        message = str(error.__cause__ if 'is killed by signal' in str(error.__cause__) else error)
        stage = MessageHub.get_current_instance().runtime_info.get('loop_stage', run)
        if isinstance(error, MemoryError) or _IN_WORKER.search(message):
            raise InputError(advise_for_workers(cfg, stage)) from error
        if isinstance(error, torch.cuda.OutOfMemoryError) or _ON_DEVICE.search(message):
            amount = _AMOUNT.search(message)
            raise InputError(advise(cfg, stage, amount[1] if amount else '')) from error
        raise


def advise(cfg: Config, stage: str, amount: str = '') -> str:
    """One line: where memory ran out, what was wanted, and what to turn down, the cheapest first.

    Args:
        cfg: The config of the run.
        stage: 'train', 'val' or 'test'.
        amount: What could not be had.
    """
    batch_size = cfg[f'{stage}_dataloader'].batch_size
    ways = [f'{stage}_dataloader.batch_size (now {batch_size})'] if batch_size > 1 else []
    if stage == 'train':
        wrapper, backbone = cfg.optim_wrapper, cfg.model.get('backbone')
        if batch_size > 1:
            counts = 2 * wrapper.get('accumulative_counts', 1)
            ways[0] += f', half of it with optim_wrapper.accumulative_counts={counts}'
        if wrapper.get('type') not in ('AutocastOptimWrapper', 'AmpOptimWrapper'):
            ways.append('precision, with --amp')
        if backbone and not backbone.get('with_cp'):
            ways.append('what is kept for the backward pass, with model.backbone.with_cp=True')
    ways.append("the pictures, by the pipeline's Resize and model.data_preprocessor.size")
    wanted = f' ({amount} more were wanted)' if amount else ''
    return f'out of memory in {_NAMES[stage]}{wanted}; turn down: {"; ".join(ways)}'


def advise_for_workers(cfg: Config, stage: str) -> str:
    """One line for processes that load data; arguments as in `advise`."""
    name = f'{stage}_dataloader'
    return (
        f'a data-loading process of {name} ran out of memory or was killed; turn down: {name}.num_workers (now '
        f'{cfg[name].get("num_workers", 0)}); {name}.batch_size (now {cfg[name].batch_size}); in a container, give '
        'more shared memory (docker run --shm-size=16g)'
    )
