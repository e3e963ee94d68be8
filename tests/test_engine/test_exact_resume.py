"""A training that was ended and resumed equals one that was not, bit by bit."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from resume_project import ROOT, write_config

STEPS = 5  # an epoch


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('resume')
    write_config(path)
    return path


def train(folder: Path, name: str, *options: str, ranks: int = 1, resume: bool = False) -> subprocess.CompletedProcess:
    """The command line that users type."""
    env = {**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(Path(__file__).parent), 'OMP_NUM_THREADS': '1',
           'CUDA_VISIBLE_DEVICES': '', 'PORT': '29577'}
    start = [sys.executable, ROOT / 'tools' / 'train.py', folder / 'small.py'] if ranks == 1 else [
        ROOT / 'tools' / 'dist_train.sh', folder / 'small.py', str(ranks)]
    command = [*start, '--work-dir', folder / name, *['--resume'] * resume, '--cfg-options', *options]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def end(step: int, during: str = 'train', by: str = 'SIGKILL') -> list[str]:
    """The options that end a training."""
    return [f'custom_hooks.1.step={step}', f'custom_hooks.1.during={during}', f'custom_hooks.1.by={by}']


def differences(a: object, b: object, name: str = '') -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    if isinstance(a, dict):
        keys = [name + str(key) for key in a.keys() ^ b.keys()]
        return keys + [each for key in a if key in b for each in differences(a[key], b[key], f'{name}.{key}')]
    if isinstance(a, (list, tuple)):
        return [each for i, (x, y) in enumerate(zip(a, b, strict=True)) for each in differences(x, y, f'{name}[{i}]')]
    return [] if a == b else [name]


def assert_same_end(folder: Path, name: str, reference: str) -> None:
    """Weights, averaged weights, optimizer, schedulers and counters of the last checkpoints are equal."""
    actual, expected = (torch.load(folder / each / 'epoch_2.pth', weights_only=True) for each in (name, reference))
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert part in expected and differences(actual[part], expected[part], part) == []
    assert [actual['meta'][key] for key in ('epoch', 'iter', 'seed')] == [2, 10, expected['meta']['seed']]


@pytest.fixture(scope='module')
def whole(folder) -> str:
    """A training that was not ended; no seed is named, as in the configs of the paper."""
    done = train(folder, 'whole', 'randomness.seed=7')
    assert done.returncode == 0, done.stderr[-3000:]
    return 'whole'


@pytest.mark.parametrize('step, during', [(7, 'train'), (10, 'train'), (2, 'val')], ids=['inside', 'end', 'validation'])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(folder, whole, step, during):
    """Killed with SIGKILL: the steps since the epoch's checkpoint are done again, and come out the same."""
    name = f'killed_{during}_{step}'
    killed = train(folder, name, 'randomness.seed=7', *end(step, during))
    assert killed.returncode == -9
    assert not (folder / name / 'epoch_2.pth').exists()
    done = train(folder, name, 'randomness.seed=7', resume=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_end(folder, name, whole)
    # The validation that was cut off, or was not seen by the checkpoint, is done.
    assert len(re.findall(r'Epoch\(val\) \[\d+\]\[\d+/\d+\] +oIoU', done.stderr + done.stdout)) == 2


@pytest.mark.parametrize('by', ['SIGTERM', 'SIGINT'])
def test_a_signal_saves_and_exits_cleanly_inside_an_epoch(folder, whole, by):
    """Step 8 is the third of the second epoch; the resumed run begins with the fourth."""
    name = f'stopped_{by}'
    stopped = train(folder, name, 'randomness.seed=7', *end(8, by=by))
    output = stopped.stderr + stopped.stdout
    assert stopped.returncode == 0 and 'Traceback' not in output
    assert f'Stopped by {by} after step 8' in output
    assert torch.load(folder / name / 'iter_8.pth', weights_only=True)['meta']['iter'] == 8
    done = train(folder, name, 'randomness.seed=7', resume=True)
    steps = re.findall(r'Epoch\(train\) \[(\d+)\]\[(\d+)/5\]', done.stderr + done.stdout)
    assert list(dict.fromkeys(steps)) == [('2', '4'), ('2', '5')]
    assert_same_end(folder, name, whole)


def test_two_ranks_resume_exactly_and_a_seed_that_was_drawn_is_kept(folder):
    assert train(folder, 'whole_2', 'train_dataloader.batch_size=2', 'randomness.seed=9', ranks=2).returncode == 0
    stopped = train(folder, 'stopped_2', 'train_dataloader.batch_size=2', 'randomness.seed=9', *end(3, by='SIGTERM'),
                    ranks=2)
    assert stopped.returncode == 0, stopped.stderr[-3000:]
    done = train(folder, 'stopped_2', 'train_dataloader.batch_size=2', ranks=2, resume=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_end(folder, 'stopped_2', 'whole_2')


def test_a_damaged_newest_checkpoint_is_passed_over(folder, whole):
    """Cut in half: the epoch before it is resumed."""
    name = 'damaged'
    assert train(folder, name, 'randomness.seed=7').returncode == 0
    newest = folder / name / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:newest.stat().st_size // 2])
    done = train(folder, name, 'randomness.seed=7', resume=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'{newest} is passed over' in done.stderr + done.stdout
    assert_same_end(folder, name, whole)


def test_neither_workers_nor_validations_change_a_training(folder, whole):
    done = train(folder, 'workers', 'randomness.seed=7', 'train_dataloader.num_workers=2', 'train_cfg.val_begin=5')
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_end(folder, 'workers', whole)
