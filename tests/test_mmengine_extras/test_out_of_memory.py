"""Out-of-memory errors become one line that says what to turn down."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import advice, out_of_memory_advice

TOY = str(Path(__file__).parents[1] / 'toy_config.py')
SMALL = str(Path(__file__).parents[2] / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
MORE = "the image size, by the pipeline's Resize and model.data_preprocessor.size"


def run(tmp_path: Path, stage: str, error: Exception | None = None) -> str:
    """Run the toy with a model that allocates 2^60 bytes in a stage, or raises the error there; return the message."""
    cfg = load_config(TOY, work_dir=str(tmp_path), cfg_options={'train_cfg.max_epochs': 1})
    with pytest.raises(InputError) as raised, out_of_memory_advice(cfg, 'test' if stage == 'test' else 'train'):
        runner = Runner.from_cfg(cfg)
        forward = runner.model.forward

        def hungry(*args, mode: str, **kwargs):
            if (mode == 'loss') is (stage == 'train'):
                if error is not None:
                    raise error
                torch.empty(2**60, dtype=torch.uint8)
            return forward(*args, mode=mode, **kwargs)

        runner.model.forward = hungry
        (runner.test if stage == 'test' else runner.train)()
    return str(raised.value)


@pytest.mark.parametrize('stage, name', [('train', 'training'), ('val', 'validation'), ('test', 'testing')])
def test_the_stage_and_its_loader_are_named(tmp_path, stage, name):
    message = run(tmp_path, stage)
    assert (
        message.startswith(
            f'out of memory in {name} (1152921504606846976 bytes more were requested); turn down: '
            f'{stage}_dataloader.batch_size (now 2)'
        )
        and '\n' not in message
    )
    assert ('--amp' in message) is (stage == 'train')


def test_a_full_gpu_is_reported_in_the_same_way(tmp_path):
    error = torch.cuda.OutOfMemoryError(
        'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of '
        '23.69 GiB of which 1.03 GiB is free.\nSee documentation'
    )
    assert run(tmp_path, 'train', error).startswith(
        'out of memory in training (2.00 GiB more were requested); turn down'
    )


class Dying(Dataset):
    """Its items end the process that makes them, by a signal, or exhaust the memory."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.number:
            os.kill(os.getpid(), self.number)
            time.sleep(60)
        return torch.empty(2**60, dtype=torch.uint8)


def error_of_worker(number: int = 0) -> Exception:
    """The error of torch's DataLoader."""
    with pytest.raises((MemoryError, RuntimeError)) as raised:
        list(DataLoader(Dying(number), num_workers=1))
    return raised.value


@pytest.mark.parametrize(
    'error',
    [
        partial(error_of_worker, signal.SIGKILL),
        partial(error_of_worker, signal.SIGBUS),
        error_of_worker,
        partial(RuntimeError, 'DataLoader worker (pid(s) 4711, 4712) exited unexpectedly'),
        # A full /dev/shm; the second in a process.
        partial(RuntimeError, 'unable to write to file </torch_4711_1234_5>: No space left on device (28)'),
        partial(
            RuntimeError,
            'Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
            'last):\n  unable to mmap 128 bytes from file </torch_4711_1234_5>: Cannot allocate memory '
            '(12)',
        ),
        partial(MemoryError, 'Caught MemoryError in DataLoader worker process 0.'),
    ],
    ids=['killed', 'bus', 'allocator', 'gone', 'shm', 'mmap', 'MemoryError'],
)
def test_errors_of_data_loading_processes_are_recognized(tmp_path, error):
    message = run(tmp_path, 'train', error())
    assert 'a data-loading process of train_dataloader ran out of memory or was killed' in message
    assert 'train_dataloader.num_workers (now 0)' in message


@pytest.mark.parametrize(
    'error',
    [
        partial(RuntimeError, 'sizes differ'),
        # Triton's, of a part of the GPU.
        partial(
            RuntimeError,
            'OutOfResources: out of resource: shared memory, Required: 131072, Hardware limit: 101376. '
            'Reducing block sizes or `num_stages` may help.',
        ),
        partial(
            RuntimeError,
            'unable to open shared memory object </torch_4711_1234_5> in read-write mode: Too many open files (24)',
        ),
        partial(error_of_worker, signal.SIGSEGV),
    ],
    ids=['shape', 'triton', 'files', 'fault'],
)
def test_other_errors_are_not_changed(error):
    error = error()
    with pytest.raises(RuntimeError) as raised, out_of_memory_advice(Config.fromfile(TOY), 'train'):
        raise error
    assert raised.value is error


def test_settings_that_are_turned_down_already_are_not_suggested():
    cfg = Config.fromfile(SMALL)
    assert advice(cfg, 'train') == (
        'out of memory in training; turn down: train_dataloader.batch_size (now 32), half of it with '
        'optim_wrapper.accumulative_counts=2; precision, with --amp; what is kept for the backward pass, with '
        f'model.backbone.with_cp=True; {MORE}'
    )
    # torch's own default.
    loader = cfg.train_dataloader.pop('batch_size')
    assert 'batch_size' not in advice(cfg, 'train')
    cfg.train_dataloader.batch_size = loader
    cfg.optim_wrapper.accumulative_counts = 2
    # An average over as many steps counts twice as many batches.
    cfg.custom_hooks = [dict(type='EMAHook', interval=20)]
    assert 'with optim_wrapper.accumulative_counts=4 and EMAHook(interval=40); ' in advice(cfg, 'train')
    cfg.merge_from_dict(
        {'train_dataloader.batch_size': 1, 'model.backbone.with_cp': True, 'optim_wrapper.dtype': 'bfloat16'}
    )
    assert advice(cfg, 'train') == f'out of memory in training; turn down: {MORE}'
