"""Ranks with different files, data or signals end in the same way, and soon."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from processes import Done, dist_environment, run_ranks

from dit_sam.engine.launch import load_config
from dit_sam.utils import lock_folder
from dit_sam.utils.checkpoint_sources import downloaded_path

TOY = Path(__file__).parents[1] / 'toy_config.py'
# Far below the minutes after which a collective call times out.
SOON = 60


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> Path:
    """The checkpoint of the first of the toy's two epochs."""
    folder = tmp_path_factory.mktemp('trained')
    Runner.from_cfg(load_config(str(TOY), work_dir=str(folder), cfg_options={'train_cfg.max_epochs': 1})).train()
    return folder / 'epoch_1.pth'


def train(folder: Path, *arguments: str, environment: dict = {}, **settings: object) -> list[Done]:
    """Train the toy on two ranks, with additional variables in its config, which may depend on RANK."""
    lines = [f"_base_ = '{TOY}'", *(f'{name} = {value}' for name, value in settings.items())]
    (folder / 'toy.py').write_text('\n'.join(lines))
    return run_ranks(
        2,
        'train.py',
        folder / 'toy.py',
        *arguments,
        timeout=SOON,
        **{name: str(value) for name, value in environment.items()},
    )


def test_rank_0_chooses_the_checkpoint_for_all(tmp_path, checkpoint):
    """Rank 1 has a folder without one, as over a slow network, and does not remove files that may be being written."""
    for rank in '01':
        (tmp_path / rank).mkdir()
        (tmp_path / rank / '.epoch_2.pth.1.part').touch()
        os.utime(tmp_path / rank / '.epoch_2.pth.1.part', (0, 0))
    shutil.copy(checkpoint, tmp_path / '0')
    done = train(tmp_path, '--resume', work_dir=f"'{tmp_path}/' + __import__('os').environ['RANK']")
    assert [each.returncode for each in done] == [0, 0], done[1].output[-3000:]
    assert f'continues from {tmp_path}/0/epoch_1.pth' in done[0].output
    assert [path.parent.name for path in tmp_path.glob('*/.*.part')] == ['1']
    assert 'Epoch(train) [1]' not in done[0].output and (tmp_path / '0' / 'epoch_2.pth').is_file()


def test_all_ranks_end_and_one_reports_if_nothing_can_be_resumed(tmp_path, checkpoint):
    (tmp_path / 'epoch_1.pth').write_bytes(checkpoint.read_bytes()[:-100])
    done = train(tmp_path, '--resume', work_dir=repr(str(tmp_path)))
    assert [each.returncode for each in done] == [1, 1]
    assert done[0].output.splitlines()[-1].startswith(f'error: no checkpoint of {tmp_path} can be read')
    assert 'error: ' not in done[1].output and 'Traceback' not in done[0].output + done[1].output


def test_all_ranks_end_and_one_reports_if_another_training_is_in_the_folder(tmp_path):
    with lock_folder(tmp_path / 'work', 'another training'):
        done = train(tmp_path, work_dir=repr(str(tmp_path / 'work')))
    assert [each.returncode for each in done] == [1, 1]
    assert done[0].output.splitlines()[-1].startswith(f'error: {tmp_path}/work is in use by another training (process ')
    assert 'error: ' not in done[1].output and 'Traceback' not in done[0].output + done[1].output


def test_a_download_that_fails_ends_the_ranks_that_wait_for_it(tmp_path):
    """The first rank of a machine downloads. Port 9 is closed."""
    address = 'http://127.0.0.1:9/weights.pth'
    done = train(tmp_path, work_dir=repr(str(tmp_path)), load_from=repr(address), environment=dict(TORCH_HOME=tmp_path))
    assert [each.returncode for each in done] == [1, 1]
    for each in done:
        assert each.output.splitlines()[-1].startswith(f'error: checkpoint {address} could not be downloaded')
        assert 'Traceback' not in each.output


def test_one_rank_reports_that_a_downloaded_file_cannot_be_resumed(tmp_path, monkeypatch):
    """The file is in torch's cache, as after its download."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    address = 'http://127.0.0.1:9/weights.pth'
    downloaded = Path(downloaded_path(address))
    downloaded.parent.mkdir(parents=True)
    torch.save(dict(state_dict={}), downloaded)
    settings = dict(work_dir=repr(str(tmp_path / 'work')), load_from=repr(address), resume=True)
    done = train(tmp_path, '--resume', **settings, environment=dict(TORCH_HOME=tmp_path))
    assert [each.returncode for each in done] == [1, 1]
    assert f'error: {address} cannot be resumed: it holds no training state' in done[0].output.splitlines()[-1]
    assert 'error: ' not in done[1].output and 'Traceback' not in done[0].output + done[1].output


@pytest.mark.parametrize('signals', [[], [dict(step=2, during='val', by='SIGTERM', rank=1)]], ids=['none', 'SIGTERM'])
def test_a_validation_of_unequal_lengths_ends_and_can_be_stopped(tmp_path, signals):
    """Rank 0 has four batches, and rank 1 two; the signal comes before the last that both have."""
    done = train(
        tmp_path,
        work_dir=repr(str(tmp_path)),
        custom_imports="dict(imports=['dit_sam', 'toy_project', 'resume_project'])",
        custom_hooks=[dict(type='EndHook', **signal) for signal in signals],
        default_hooks='dict(stop_signal=dict(interval=1))',
        val_dataloader="dict(batch_size=1 + int(__import__('os').environ['RANK']))",
    )
    assert [each.returncode for each in done] == [0, 0], done[1].output[-3000:]
    assert (tmp_path / 'epoch_2.pth').exists() is not bool(signals)
    assert ('Stopped by a signal to another rank after step 2: its checkpoint is saved' in done[0].output) is bool(
        signals
    )


def test_ranks_check_for_signals_at_the_first_step_after_an_interval(tmp_path):
    """First after batch 2; signaled after batch 3; batch 5 would be next, but is between two steps."""
    done = train(
        tmp_path,
        work_dir=repr(str(tmp_path)),
        custom_imports="dict(imports=['dit_sam', 'toy_project', 'resume_project'])",
        custom_hooks=[dict(type='EndHook', step=3, by='SIGTERM')],
        default_hooks='dict(stop_signal=dict(interval=3, seconds=1e6))',
        optim_wrapper=dict(accumulative_counts=2),
        train_dataloader='dict(dataset=dict(items=40))',
    )
    assert [each.returncode for each in done] == [0, 0], done[1].output[-3000:]
    assert 'Stopped by SIGTERM after step 6: ' in done[0].output and (tmp_path / 'stopped_iter_6.pth').exists()


def test_ranks_with_slow_batches_check_at_each_batch(tmp_path):
    """A batch alone takes longer than 0 seconds."""
    done = train(
        tmp_path,
        work_dir=repr(str(tmp_path)),
        custom_imports="dict(imports=['dit_sam', 'toy_project', 'resume_project'])",
        custom_hooks=[dict(type='EndHook', step=3, by='SIGTERM', rank=1)],
        default_hooks='dict(stop_signal=dict(seconds=0))',
        train_dataloader='dict(dataset=dict(items=40))',
    )
    assert [each.returncode for each in done] == [0, 0], done[1].output[-3000:]
    assert (tmp_path / 'stopped_iter_3.pth').exists()


def test_a_training_with_ranks_of_unequal_length_is_refused(tmp_path):
    """With 37 items rank 0 has ten batches, and rank 1 nine."""
    done = train(
        tmp_path,
        work_dir=repr(str(tmp_path)),
        train_dataloader='dict(dataset=dict(items=37), sampler=dict(round_up=False))',
    )
    assert [each.returncode for each in done] == [1, 1]
    for each in done:
        assert each.output.splitlines()[-1].startswith('error: train_dataloader gives the ranks 10, 9 batches an epoch')


def test_a_rank_exits_before_the_interpreter_shuts_down():
    """Exit functions run, but modules are not torn down, because threads of gloo may still use the interpreter."""
    program = """import atexit, sys, torch, types
# Without the rest of the packages, whose imports take seconds.
sys.modules['transformers'] = None
for name in ('dit_sam', 'dit_sam.mmengine_extras'):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [f'{sys.argv[1]}/{name.replace(".", "/")}']
from dit_sam.mmengine_extras.ranks import end_process_group
class Last:
    def __del__(self):
        print('taken down')
last = Last()
atexit.register(print, 'due at exit')
torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
end_process_group(0)
print('end')
sys.exit(0)
"""
    done = subprocess.run(
        [sys.executable, '-c', program, str(TOY.parents[1] / 'projects')],
        capture_output=True,
        text=True,
        env=dist_environment(),
    )
    assert (done.returncode, done.stdout) == (0, 'end\ndue at exit\n'), done.stderr[-3000:]
