"""One-line errors that say what to do, for missing files, lack of memory and full disks."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from ..errors import InputError, show_traceback
from ..utils.checkpoints import CheckpointError
from .config_check import SECTIONS, class_name, nested_values

# Messages of torch's allocators (GPU, CPU, cuDNN, cuBLAS, NCCL).
_ON_DEVICE = re.compile(r"out of memory|can't allocate memory|not enough memory|_STATUS_ALLOC_FAILED", re.IGNORECASE)
# Messages of torch's DataLoader about its workers (DataLoader.cpp, dataloader.py), except for signals of program
# faults, and of its allocator about the files by which workers send tensors (MapAllocator.cpp), whose names begin with
# torch_. Not just "shared memory", which is also Triton's name for a part of the GPU.
_IN_WORKER = re.compile(
    r'DataLoader worker \(pid \d+\) is killed by signal: (?!Segmentation fault|Illegal|Floating)'
    r'|DataLoader worker \(pid\(s\) [\d, ]+\) exited unexpectedly'
    r'|unable to [^<]*</?torch_\d+[^>]*>(?!.*Too many open files)'
    r'|Caught \w+ in DataLoader worker process (?=.*(can\'t allocate memory|not enough memory))',
    re.DOTALL,
)
_AMOUNT = re.compile(r'tried to allocate ([\d.]+ ?\w+)', re.IGNORECASE)
_STAGES = dict(train='training', val='validation', test='testing')


@contextmanager
def one_line_errors(*others: type[Exception]) -> Iterator[None]:
    """End the program with status 1 and one line on stderr if the user's input or disk is at fault.

    These are missing files, refused checkpoints, `InputError`, full disks, limits on file size, and `others`. Any other
    error keeps its traceback. Ctrl-C ends the program by the signal, so that a loop of a shell ends too, and prints a
    line in place of the traceback. With DIT_SAM_DEBUG=1 in the environment, a traceback is printed before the line.
    Letters that the terminal or a file of output cannot show are written as escapes from now on.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    user_errors: tuple[type[Exception], ...] = (FileNotFoundError, CheckpointError, InputError, *others)
    try:
        yield
    except user_errors as error:
        message = str(error).strip()
        # An error of a data-loading process holds that process's traceback and ends with the message.
        if 'Traceback (most recent call last)' in message:
            message = message.splitlines()[-1]
        _exit(message)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        reason = 'a file is larger than the system allows' if error.errno == errno.EFBIG else 'the disk is full'
        _exit(
            f'{reason}{f" ({error.filename})" if error.filename else ""}: make room and run again; '
            'existing checkpoints are intact, and tools/train.py --resume continues from the newest'
        )
    except KeyboardInterrupt:
        show_traceback()
        # Python calls it last, and then sends itself the signal again.
        sys.excepthook = lambda *_: print('stopped by Ctrl-C', file=sys.stderr)
        raise


def _exit(message: str) -> None:
    show_traceback()
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)


@contextmanager
def missing_data_advice(cfg: Config) -> Iterator[None]:
    """Add to the error of a missing file the keys of the config that name it or its folder.

    This is for data sets whose errors only name the path. Errors that say more pass unchanged.

    Raises:
        FileNotFoundError: In place of the system's error.
    """
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None:
            raise
        # The file itself, or a folder above it.
        path = f'{error.filename}/'
        keys = sorted(
            name
            for name, value in nested_values({key: cfg[key] for key in SECTIONS & cfg.keys()})
            if isinstance(value, str) and value and path.startswith(f'{value.rstrip("/")}/')
        )
        if not keys:
            raise
        raise FileNotFoundError(
            f'{error.filename} not found: put it there, or name its place by --cfg-options for {" and ".join(keys)}'
        ) from error


@contextmanager
def out_of_memory_advice(cfg: Config, run: str) -> Iterator[None]:
    """Turn out-of-memory errors into an `InputError` that says what to turn down.

    Args:
        cfg: The config of the run; settings that are turned down already are not suggested.
        run: 'train' or 'test'. A validation within a training is detected.

    Raises:
        InputError: Memory ran out, on the device or in a data-loading process.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The error of a killed worker is the cause of another one, and names the signal.
        message = str(error.__cause__ if 'is killed by signal' in str(error.__cause__) else error)
        stage = MessageHub.get_current_instance().runtime_info.get('loop_stage', run)
        if isinstance(error, MemoryError) or _IN_WORKER.search(message):
            raise InputError(_advice_for_workers(cfg, stage)) from error
        if isinstance(error, torch.cuda.OutOfMemoryError) or _ON_DEVICE.search(message):
            amount = _AMOUNT.search(message)
            raise InputError(advice(cfg, stage, amount[1] if amount else '')) from error
        raise


def advice(cfg: Config, stage: str, amount: str = '') -> str:
    """One line: where memory ran out, how much was requested, and what to turn down, the cheapest first.

    Args:
        cfg: The config of the run.
        stage: 'train', 'val' or 'test'.
        amount: The requested memory, such as '20 MiB'.
    """
    batch_size = cfg[f'{stage}_dataloader'].get('batch_size', 1)
    ways = [f'{stage}_dataloader.batch_size (now {batch_size})'] if batch_size > 1 else []
    if stage == 'train':
        wrapper, backbone = cfg.optim_wrapper, cfg.model.get('backbone')
        if batch_size > 1:
            counts = 2 * wrapper.get('accumulative_counts', 1)
            ways[0] += f', half of it with optim_wrapper.accumulative_counts={counts}'
            averaging = [hook for hook in cfg.get('custom_hooks') or () if class_name(hook) == 'EMAHook']
            if averaging:
                ways[0] += f' and EMAHook(interval={2 * averaging[0].get("interval", 1)})'
        if class_name(wrapper) != 'AmpOptimWrapper' and not wrapper.get('dtype'):
            ways.append('precision, with --amp')
        if backbone and not backbone.get('with_cp'):
            ways.append('what is kept for the backward pass, with model.backbone.with_cp=True')
    ways.append("the image size, by the pipeline's Resize and model.data_preprocessor.size")
    wanted = f' ({amount} more were requested)' if amount else ''
    return f'out of memory in {_STAGES[stage]}{wanted}; turn down: {"; ".join(ways)}'


def _advice_for_workers(cfg: Config, stage: str) -> str:
    name = f'{stage}_dataloader'
    workers, batch_size = cfg[name].get('num_workers', 0), cfg[name].get('batch_size', 1)
    return (
        f'a data-loading process of {name} ran out of memory or was killed; turn down: {name}.num_workers (now '
        f'{workers}); {name}.batch_size (now {batch_size}); in a container, give more shared memory (docker run '
        '--shm-size=16g)'
    )
