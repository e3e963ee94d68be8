"""DeepSpeed trains as DistributedDataParallel does, skips the same steps, resumes, and loads files safely."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from golden_loss import losses
from hostile import Hostile
from mmengine.config import Config
from processes import ROOT, run_ranks, run_tool
from resume_project import write_config

# On a CPU it compiles an operation when it first runs, for a minute: DeepSpeed needs g++ and ninja there.
deepspeed = pytest.importorskip('deepspeed', reason='DeepSpeed is not installed (pip install deepspeed)')
OPTIONS = ['--cfg-options', 'train_dataloader.batch_size=2', 'randomness.seed=7', 'log_processor.window_size=1']


def write_configs(folder: Path) -> dict[str, Path]:
    """The small training: plain, and by DeepSpeed as ldit_vit-h_deepspeed.py is; that in float32, twice."""
    names = ('bfloat16', 'shards', 'accumulated', 'stopped')
    paths = dict(plain=write_config(folder), **{name: folder / f'{name}.py' for name in names})
    plain, config = Config.fromfile(paths['plain']), Config.fromfile(ROOT / 'configs/dit_sam/ldit_vit-h_deepspeed.py')
    plain.custom_hooks = [dict(type='SpoilHook', loss=(2,), gradient=(7,), rank=1)]
    plain.dump(paths['plain'])
    shards = Config.fromfile(paths['plain'])
    for key in ('runner_type', 'strategy', 'optim_wrapper'):
        shards[key] = config[key]
    shards.optim_wrapper.optimizer = plain.optim_wrapper.optimizer
    shards.strategy.gradient_clipping = plain.optim_wrapper.clip_grad.max_norm
    shards.dump(paths['bfloat16'])
    shards.strategy.config = {}
    shards.dump(paths['shards'])
    shards.strategy.gradient_accumulation_steps = 2
    shards.dump(paths['accumulated'])
    shards.custom_hooks.append(dict(type='EndHook', step=7, by='SIGTERM', rank=1))
    shards.default_hooks.stop_signal.interval = 1
    shards.dump(paths['stopped'])
    return paths


def train(config: Path, *switches: str) -> str:
    """What rank 0 printed."""
    done = run_ranks(2, 'train.py', config, '--work-dir', config.with_suffix(''), *switches, *OPTIONS)
    assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    return done[0].output


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    from deepspeed.comm.torch import build_shm_op

    build_shm_op()
    path = tmp_path_factory.mktemp('deepspeed')
    for config in write_configs(path).values():
        train(config)
    return path


def test_the_losses_equal_those_of_distributed_data_parallel(folder):
    """The loss of step 2 is NaN, a gradient of step 7 infinite, of one rank each."""
    shards, plain = (torch.tensor(losses(folder / name)) for name in ('shards', 'small'))
    torch.testing.assert_close(shards, plain, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert plain.isnan().nonzero().tolist() == [[1]] and len(plain) == 10
    # In bfloat16, of three digits.
    shards = torch.tensor(losses(folder / 'bfloat16'))
    torch.testing.assert_close(shards, plain, rtol=4e-3, atol=0, equal_nan=True)
    assert not torch.allclose(shards, plain, rtol=1e-5, atol=1e-5, equal_nan=True)
    log = next((folder / 'shards').glob('*/*.log')).read_text()
    assert 'Step 2 was skipped' in log and 'Step 7 was skipped' in log and '(1 in a row, 2 in all)' in log


def test_it_resumes_bit_equal_from_the_newest_intact_checkpoint(folder):
    names = dict(weights='mp_rank_00_model_states.pt', optimizer='zero_pp_rank_1_mp_rank_00_optim_states.pt')
    last = folder / 'shards' / 'epoch_2.pth'
    whole = torch.load(last / names['weights'], weights_only=True)
    (last / names['optimizer']).write_bytes((last / names['optimizer']).read_bytes()[:100_000])
    (folder / 'shards' / '.epoch_3.pth.part').mkdir()
    os.utime(folder / 'shards' / '.epoch_3.pth.part', (0, 0))
    output = train(folder / 'shards.py', '--resume')
    assert f'{last} is skipped: {names["optimizer"]} in it is damaged' in output
    assert not list((folder / 'shards').glob('.*.part'))
    again = torch.load(last / names['weights'], weights_only=True)
    assert again['meta']['iter'] == 10 and again['module'].keys() == whole['module'].keys()
    assert all(torch.equal(again['module'][name], value) for name, value in whole['module'].items())


def test_a_signal_saves_a_folder_that_resumes(folder):
    """After batch 8: batch 7 is only accumulated, and its gradients would be lost."""
    assert (folder / 'stopped' / 'stopped_iter_8.pth').is_dir() and not (folder / 'stopped' / 'epoch_2.pth').exists()
    train(folder / 'stopped.py', '--resume')
    actual, expected = (
        torch.load(folder / name / 'epoch_2.pth' / 'mp_rank_00_model_states.pt', weights_only=True)
        for name in ('stopped', 'accumulated')
    )
    assert all(torch.equal(actual['module'][name], value) for name, value in expected['module'].items())


def test_the_best_checkpoint_is_one_file_that_any_tool_reads(folder):
    (best,) = (folder / 'shards').glob('best_*.pth')
    done = run_tool(
        'test.py',
        folder / 'small.py',
        best,
        '--work-dir',
        folder / 'test',
        '--cfg-options',
        f'test_dataloader.dataset.data_root={folder}/data/',
    )
    assert done.returncode == 0, done.output[-3000:]


def test_a_hostile_file_in_the_folder_is_refused(folder):
    hostile, trace = folder / 'hostile', folder / 'trace'
    shutil.copytree(folder / 'shards', hostile)
    for file in hostile.glob('epoch_*.pth/mp_rank_00_model_states.pt'):
        torch.save(dict(module=Hostile(trace)), file)
    done = run_ranks(2, 'train.py', folder / 'shards.py', '--work-dir', hostile, '--resume', *OPTIONS)
    assert [each.returncode for each in done] == [1, 1]
    assert 'mp_rank_00_model_states.pt was refused and nothing in it was run' in done[0].output
    assert not trace.exists()
