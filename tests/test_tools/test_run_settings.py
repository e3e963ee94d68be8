"""The start of a run: its settings and their checks, mixed precision, and resuming."""

import argparse
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from processes import ROOT, call_tool, run_tool
from safetensors.torch import save_file

from dit_sam.engine.launch import check_checkpoint, enable_amp, load_config, resume_latest
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.config_options import read_config_options
from dit_sam.utils import CheckpointError
from dit_sam_cli.arguments import add_config_options

CONFIG = str(ROOT / 'tests' / 'toy_config.py')
TOY_WEIGHTS = {'linear.weight': torch.tensor([[2.0]]), 'linear.bias': torch.tensor([0.0])}


@pytest.fixture
def other_run(tmp_path) -> Path:
    """The folder of a finished training of one epoch."""
    cfg = load_config(CONFIG, work_dir=str(tmp_path / 'other'), cfg_options={'train_cfg.max_epochs': 1})
    Runner.from_cfg(cfg).train()
    return tmp_path / 'other'


def resumed(work_dir: Path, **options: object) -> tuple[str, bool]:
    """What a command with --resume starts from: `load_from` and `resume` of its config."""
    cfg = load_config(CONFIG, work_dir=str(work_dir), cfg_options=options)
    resume_latest(cfg)
    return cfg.load_from, cfg.resume


def test_repeating_the_command_continues_its_own_training(tmp_path, other_run):
    """A fine-tuning from another run's checkpoint starts with its weights, and continues from its own checkpoints."""
    save_file(TOY_WEIGHTS, tmp_path / 'plain.safetensors')
    mine = tmp_path / 'mine'
    for start in (str(other_run / 'epoch_1.pth'), str(tmp_path / 'plain.safetensors'), None):
        assert resumed(mine, load_from=start) == (start, False)
    done = run_tool(
        'train.py',
        CONFIG,
        '--work-dir',
        mine,
        '--resume',
        '--cfg-options',
        f'load_from={tmp_path / "plain.safetensors"}',
    )
    assert done.returncode == 0 and 'Epoch(train) [2]' in done.output, done.output
    for start in (str(other_run / 'epoch_1.pth'), str(tmp_path / 'plain.safetensors'), None):
        assert resumed(mine, load_from=start) == (str(mine / 'epoch_2.pth'), True)


def test_checkpoints_of_a_hook_that_writes_elsewhere(tmp_path):
    """In the folder of `out_dir` that is named like the work dir; its unfinished writes are removed too."""
    out_dir, work_dir = tmp_path / 'elsewhere', tmp_path / 'mine'
    options = {'train_cfg.max_epochs': 2, 'default_hooks.checkpoint.out_dir': str(out_dir)}
    Runner.from_cfg(load_config(CONFIG, work_dir=str(work_dir), cfg_options=options)).train()
    (out_dir / 'mine' / '.epoch_3.pth.part').touch()
    os.utime(out_dir / 'mine' / '.epoch_3.pth.part', (0, 0))
    newest, older = (str(out_dir / 'mine' / f'epoch_{number}.pth') for number in (2, 1))
    assert resumed(work_dir, **options) == (newest, True)
    assert not (out_dir / 'mine' / '.epoch_3.pth.part').exists()
    assert resumed(work_dir, load_from=older, resume=True, **options) == (older, True)
    remote = {'default_hooks.checkpoint.out_dir': 's3://mine'}
    with pytest.raises(InputError, match='cannot search default_hooks.checkpoint.out_dir=s3://mine: name the checkp'):
        resumed(work_dir, **remote)
    assert resumed(work_dir, load_from=older, resume=True, **remote) == (older, True)


def test_resume_in_the_config_uses_load_from_if_nothing_is_newer(tmp_path, other_run):
    start, mine = other_run / 'epoch_1.pth', tmp_path / 'mine'
    assert resumed(mine, load_from=str(start), resume=True) == (str(start), True)
    shutil.copytree(other_run, mine)
    (mine / 'epoch_1.pth').rename(mine / 'epoch_2.pth')
    shutil.copy(start, mine / 'epoch_1.pth')
    os.utime(mine / 'epoch_1.pth', (0, 0))
    assert resumed(mine, load_from=str(start), resume=True) == (str(mine / 'epoch_2.pth'), True)
    # A file that cannot be resumed is ignored if there is a newer checkpoint.
    save_file(TOY_WEIGHTS, tmp_path / 'plain.safetensors')
    newest = (str(mine / 'epoch_2.pth'), True)
    assert resumed(mine, load_from=str(tmp_path / 'plain.safetensors'), resume=True) == newest
    # An older checkpoint of the run itself is used, by any spelling of its path.
    (tmp_path / 'link').symlink_to(mine)
    assert resumed(tmp_path / 'link', load_from=str(mine / 'epoch_1.pth'), resume=True)[0] == str(mine / 'epoch_1.pth')
    assert resumed(mine, load_from=str(mine / 'epoch_1.pth'), resume=True) == (str(mine / 'epoch_1.pth'), True)


def test_a_file_with_only_weights_is_not_resumed(tmp_path):
    path = tmp_path / 'plain.safetensors'
    save_file(TOY_WEIGHTS, path)
    with pytest.raises(CheckpointError, match=f'{path} cannot be resumed: it holds no training state; leave out'):
        resumed(tmp_path / 'mine', load_from=str(path), resume=True)


def test_work_dir_comes_from_the_command_then_the_config_then_its_name():
    assert load_config(CONFIG).work_dir == os.path.join('work_dirs', 'toy_config')
    assert load_config(CONFIG, cfg_options=dict(work_dir='a')).work_dir == 'a'
    assert load_config(CONFIG, cfg_options=dict(work_dir='a'), work_dir='b').work_dir == 'b'


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'zebra': 1},
            '--cfg-options zebra=1 does not fit the config: zebra is neither in the config nor anything that a '
            'run reads$',
        ),
        ({'find_unused_paramters': True}, 'a run reads; did you mean find_unused_parameters[?]$'),
        ({'train_dataloder.batch_size': 1}, 'a run reads; did you mean train_dataloader[?]$'),
        ({'param_scheduler.0': 3}, 'a single value in a list cannot be set; give the whole list$'),
        ({'custom_imports.imports': ['mine']}, 'custom_imports takes effect when the config is read; write it there$'),
    ],
)
def test_settings_without_effect_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        load_config(CONFIG, cfg_options=options)


def test_copied_variables_of_a_config_are_refused(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = ['{CONFIG}']\nnumber = 12345\nfor_my_hook = 54321\nsizes = dict(side=[11, 13])\n"
        "randomness = dict(seed=number)\nenv_cfg = dict(mp_cfg=sizes['side'])\n"
    )
    for option, place in (
        ({'number': 1}, 'number was copied when the config was read; set randomness.seed$'),
        ({'sizes.side': [1, 2]}, 'sizes was copied .*; set env_cfg.mp_cfg$'),
        ({'sizes.side.1': 2}, 'sizes was copied .*; set env_cfg.mp_cfg.1$'),
    ):
        with pytest.raises(InputError, match=place):
            load_config(str(path), cfg_options=option)
    assert load_config(str(path), cfg_options=dict(for_my_hook=2)).for_my_hook == 2


def test_settings_that_the_config_lacks_are_applied():
    options = dict(find_unused_parameters=True, resume=True, experiment_name='mine')
    cfg = load_config(CONFIG, cfg_options=options)
    assert {key: cfg[key] for key in options} == options
    # The key that mmengine's runner reads instead.
    assert cfg.model_wrapper_cfg == dict(
        broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def test_an_option_of_randomness_needs_no_seed(tmp_path):
    """Also with a config that does not start from default_runtime.py."""
    (tmp_path / 'mine.py').write_text("model = dict(type='ToyModel')\ndefault_scope = 'mmseg'\n")
    options = {'randomness.diff_rank_seed': True}
    cfg = load_config(str(tmp_path / 'mine.py'), work_dir=str(tmp_path), cfg_options=options)
    assert isinstance(Runner.from_cfg(cfg).seed, int)


def test_amp_follows_the_device_and_refuses_other_wrappers(monkeypatch):

    def switched(wrapper: str, **settings: str) -> Config:
        cfg = Config(dict(optim_wrapper=dict(type=wrapper, **settings)))
        enable_amp(cfg)
        return cfg.optim_wrapper

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert switched('OptimWrapper') == dict(type='GuardedOptimWrapper', dtype='bfloat16')
    on_already = switched('GuardedOptimWrapper', dtype='bfloat16')
    assert on_already == dict(type='GuardedOptimWrapper', dtype='bfloat16')
    with pytest.raises(ValueError, match="got 'ApexOptimWrapper'"):
        switched('ApexOptimWrapper')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (7, 5))
    assert switched('OptimWrapper') == dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16')
    with pytest.raises(InputError, match='--amp takes on GPUs before Ampere.*does not work with FSDP: train without'):
        enable_amp(Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-h_fsdp.py'))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (8, 0))
    assert switched('GuardedOptimWrapper') == dict(type='GuardedOptimWrapper', dtype='bfloat16')


def test_remote_checkpoints_pass_the_check():
    check_checkpoint('https://example.com/a.pth')
    check_checkpoint(CONFIG)


@pytest.mark.parametrize(
    'status, setting, wanted',
    [
        (2, 'work_dir', 'key=value'),
        (1, 'a=[(1,2]', 'brackets and quotes that close, and no dict in a list'),
        (1, 'custom_hooks=[dict(type=EMAHook,momentum=0.1)]', 'brackets and quotes that close, and no dict in a list'),
    ],
)
def test_unreadable_settings_are_a_one_line_error(status, setting, wanted, capsys):
    assert call_tool('train.py', CONFIG, '--cfg-options', setting) == status
    line = capsys.readouterr().err.splitlines()[-1].replace('argument --cfg-options:', '--cfg-options')
    assert line.removeprefix('train.py: ') == f'error: --cfg-options {setting} cannot be read: it needs {wanted}'


@pytest.mark.parametrize(
    'text, value',
    [
        ('the left cat', 'the left cat'),
        ('"the left cat"', 'the left cat'),
        ('3', 3),
        ('1e-4', 1e-4),
        ('True', True),
        ('None', None),
        ('[a, b]', ['a', 'b']),
        ('a,b', ['a', 'b']),
        ('[(0.9, 0.98)]', [(0.9, 0.98)]),
        ('', ''),
    ],
)
def test_settings_keep_their_values(text, value):
    """mmengine also removes the spaces of a single value."""
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    options = read_config_options(parser.parse_args(['--cfg-options', f'a.b={text}', 'c=1']).cfg_options)
    assert options == {'a.b': value, 'c': 1} and type(options['a.b']) is type(value)
