"""The command line: mmseg's arguments, clear errors, one process and two."""

import argparse
import copy
import os
import re
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from processes import ROOT, call_tool, run_tool
from safetensors.torch import save_file

from dit_sam.apis import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from dit_sam.datasets.shapes import write_shapes
from dit_sam.engine.launch import check_checkpoint, enable_amp, load_config, resume_latest
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.config_options import add_config_options
from dit_sam.utils import CheckpointError

CONFIG = str(ROOT / 'tests' / 'toy_config.py')
# mmseg 1.2.2: tools/train.py and tools/test.py
TRAIN_ARGUMENTS = ['config', '--work-dir', '--resume', '--amp', '--cfg-options', '--launcher', '--local_rank']
TEST_ARGUMENTS = [
    'config',
    'checkpoint',
    '--work-dir',
    '--out',
    '--show',
    '--show-dir',
    '--wait-time',
    '--cfg-options',
    '--launcher',
    '--tta',
    '--local_rank',
]
TOY_WEIGHTS = {'linear.weight': torch.tensor([[2.0]]), 'linear.bias': torch.tensor([0.0])}


def run(*command, **changes) -> subprocess.CompletedProcess:
    """Run a command outside the repository, with one thread and without a GPU."""
    env = {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT / 'tests'),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **changes.pop('env', {}),
    }
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, **changes)


def print_arguments(path: Path) -> str:
    """Write a program that prints its arguments, one a line."""
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return str(path)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser that a tool builds, taken at the moment it would parse."""
    with mock.patch('argparse.ArgumentParser.parse_args', autospec=True, side_effect=SystemExit) as parse_args:
        call_tool(name)
    return parse_args.call_args.args[0]


@pytest.mark.parametrize('name, expected', [('train.py', TRAIN_ARGUMENTS), ('test.py', TEST_ARGUMENTS)])
def test_arguments_are_those_of_mmseg(name, expected):
    actions = [action for action in parser_of(name)._actions if action.dest != 'help']
    assert [(action.option_strings or [action.dest])[0] for action in actions] == expected
    assert actions[-1].option_strings == ['--local_rank', '--local-rank']
    launcher = next(action for action in actions if action.dest == 'launcher')
    assert launcher.choices == ['none', 'pytorch', 'slurm', 'mpi'] and launcher.default == 'none'


@pytest.mark.parametrize(
    'name, arguments, message',
    [
        (
            'train.py',
            ['nowhere/none.py'],
            'config nowhere/none.py not found: configs/dit_sam has those of this project',
        ),
        ('train.py', ['toy_confg.py'], 'config toy_confg.py not found: did you mean toy_config.py?'),
        (
            'test.py',
            [CONFIG, 'none.pth'],
            'checkpoint none.pth not found: check the path; tools/train.py writes its checkpoints to the --work-dir',
        ),
        (
            'test.py',
            [CONFIG, CONFIG, '--out', CONFIG],
            f'{CONFIG} cannot be written to: {CONFIG} is a file; name another place',
        ),
    ],
    ids=['config', 'misspelt config', 'checkpoint', 'folder of masks'],
)
def test_a_wrong_path_gets_one_line_and_status_1(name, arguments, message, monkeypatch, error_of):
    monkeypatch.chdir(ROOT / 'tests')
    assert error_of(name, *arguments, alone=True) == message


def test_a_traceback_is_kept_where_it_is_asked_for(tmp_path):
    """With the causes, and the line at the end."""
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK\x03\x04')
    done = run_tool('test.py', CONFIG, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path, DIT_SAM_DEBUG='1')
    assert done.returncode == 1 and done.output.splitlines()[-1].startswith('error: checkpoint ')
    assert 'zipfile.BadZipFile: File is not a zip file' in done.output
    assert 'dit_sam.utils.checkpoints.CheckpointError: checkpoint ' in done.output


def test_a_file_that_is_no_checkpoint_gets_one_line_and_status_1(tmp_path):
    done = run_tool('test.py', CONFIG, CONFIG, '--work-dir', tmp_path)
    assert done.returncode == 1
    assert done.output.splitlines()[-1].startswith(f'error: checkpoint {CONFIG} is damaged or not a checkpoint')
    assert 'Traceback' not in done.output


def test_a_missing_file_met_by_a_data_loading_process_gets_one_line(tmp_path):
    done = run_tool(
        'train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_dataloader.num_workers=1',
        'train_dataloader.dataset.missing_file=pictures/1.jpg',
    )
    assert done.returncode == 1
    assert done.output.splitlines()[-1] == 'error: FileNotFoundError: pictures/1.jpg is missing'
    assert 'Traceback' not in done.output


def test_a_training_in_a_thread_says_that_signals_are_not_handled(tmp_path):
    """Python lets the main thread alone handle signals."""
    options = {'train_cfg.max_epochs': 1, 'experiment_name': 'in_a_thread'}
    runner = Runner.from_cfg(load_config(CONFIG, work_dir=str(tmp_path), cfg_options=options))
    with ThreadPoolExecutor(1) as threads:
        threads.submit(runner.train).result()
    assert (tmp_path / 'epoch_1.pth').is_file()
    (log,) = tmp_path.glob('*/*.log')
    assert 'Signals are not handled: the training does not run in the main thread' in log.read_text()


def test_resume_goes_on_in_mixed_precision(tmp_path):
    cfg = load_config(CONFIG, work_dir=str(tmp_path), cfg_options={'train_cfg.max_epochs': 1})
    Runner.from_cfg(cfg).train()
    done = run_tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', '--amp')
    assert done.returncode == 0, done.output
    assert 'resumed epoch: 1, iter: 4' in done.output
    assert torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 8
    assert Config.fromfile(tmp_path / 'toy_config.py').optim_wrapper.dtype == 'bfloat16'


def test_mixed_precision_stays_in_float32_on_a_cpu_without_bfloat16(tmp_path):
    """Where each product would take dozens of times as long; the variable makes oneDNN take this CPU for such a one."""
    done = run_tool(
        'train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--amp',
        '--cfg-options',
        'val_cfg.fp16=True',
        ONEDNN_MAX_CPU_ISA='AVX2',
    )
    assert done.returncode == 0, done.output
    assert 'This CPU has no bfloat16 arithmetic: the training stays in float32' in done.output
    assert 'This CPU has no bfloat16 arithmetic: the validation stays in float32' in done.output
    assert Config.fromfile(tmp_path / 'toy_config.py').val_cfg.fp16 is False


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


def test_the_same_command_sent_again_continues_its_own_training(tmp_path, other_run):
    """A fine-tuning from another run's checkpoint starts with its weights, and goes on from its own checkpoints."""
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


def test_resume_in_the_config_takes_the_state_of_load_from_where_there_is_nothing_newer(tmp_path, other_run):
    start, mine = other_run / 'epoch_1.pth', tmp_path / 'mine'
    assert resumed(mine, load_from=str(start), resume=True) == (str(start), True)
    shutil.copytree(other_run, mine)
    (mine / 'epoch_1.pth').rename(mine / 'epoch_2.pth')
    shutil.copy(start, mine / 'epoch_1.pth')
    os.utime(mine / 'epoch_1.pth', (0, 0))
    assert resumed(mine, load_from=str(start), resume=True) == (str(mine / 'epoch_2.pth'), True)
    # What could not be resumed is not looked at where there is something newer.
    save_file(TOY_WEIGHTS, tmp_path / 'plain.safetensors')
    newest = (str(mine / 'epoch_2.pth'), True)
    assert resumed(mine, load_from=str(tmp_path / 'plain.safetensors'), resume=True) == newest
    # An older checkpoint of the run itself is a choice, by whatever path.
    (tmp_path / 'link').symlink_to(mine)
    assert resumed(tmp_path / 'link', load_from=str(mine / 'epoch_1.pth'), resume=True)[0] == str(mine / 'epoch_1.pth')
    assert resumed(mine, load_from=str(mine / 'epoch_1.pth'), resume=True) == (str(mine / 'epoch_1.pth'), True)


def test_weights_alone_are_not_resumed(tmp_path):
    path = tmp_path / 'plain.safetensors'
    save_file(TOY_WEIGHTS, path)
    with pytest.raises(CheckpointError, match=f'{path} cannot be resumed: it holds no training state; leave out'):
        resumed(tmp_path / 'mine', load_from=str(path), resume=True)


def test_test_reads_safetensors_and_writes_masks(tmp_path, monkeypatch):
    save_file(TOY_WEIGHTS, tmp_path / 'exact.safetensors')
    monkeypatch.chdir(tmp_path)
    done = run_tool('test.py', CONFIG, tmp_path / 'exact.safetensors', '--out', tmp_path / 'masks')
    assert done.returncode == 0, done.output
    assert 'mIoU: 100.0000' in done.output
    assert (tmp_path / 'work_dirs' / 'toy_config').is_dir()
    # The toy's "mask" of the item x is one pixel, which is set from x = 0.5 on.
    values = [cv2.imread(str(tmp_path / 'masks' / f'{number}_{10 + number}.png'), -1) for number in range(8)]
    assert np.ravel(values).tolist() == [0, 0, 0, 0, 255, 255, 255, 255]


def test_tta_scores_the_average_of_several_views(tmp_path, output_of):
    """By ours also where the config names mmseg's, which takes probabilities for logits."""
    write_shapes(tmp_path / 'data', 2, 77, 160, dict(val=1.0), 1)
    options = [
        f'test_dataloader.dataset.data_root={tmp_path}/data/',
        'test_dataloader.dataset.indices=4',
        'test_dataloader.num_workers=0',
        'tta_model.type=SegTTAModel',
    ]
    output = output_of(
        'test.py',
        DEFAULT_CONFIG,
        DEFAULT_CHECKPOINT,
        '--tta',
        '--work-dir',
        tmp_path / 'work',
        '--out',
        tmp_path / 'masks',
        '--cfg-options',
        *options,
    )
    assert float(re.findall(r' mIoU: ([0-9.]+)', output)[-1]) > 80
    assert len(list((tmp_path / 'masks').iterdir())) == 4


def test_tta_keeps_the_truth_of_the_ordinary_test():
    """In data sets within others too, each with its own."""
    augment = runpy.run_path(str(ROOT / 'tools' / 'test.py'))['augment']
    cfg = load_config(DEFAULT_CONFIG)
    plain = cfg.test_dataloader.dataset
    other = copy.deepcopy(plain)
    other.pipeline[2].covered_twice = False
    cfg.test_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[plain, dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=other)])],
    )
    augment(cfg)
    first, (second,) = cfg.test_dataloader.dataset.datasets[0], cfg.test_dataloader.dataset.datasets[1].datasets
    found = [re.findall("'covered_twice': False", str(each)) for each in (first, second.dataset)]
    assert list(map(len, found)) == [0, str(cfg.tta_pipeline).count('LoadReferringMask')]
    assert all('TestTimeAug' in str(each.pipeline) for each in (first, second.dataset))


def test_tta_says_what_is_wrong_in_its_part_of_the_config(tmp_path, error_of):
    weights = tmp_path / 'weights.safetensors'
    save_file(TOY_WEIGHTS, weights)
    line = error_of('test.py', CONFIG, weights, '--tta', alone=True)
    assert line.startswith('--tta needs tta_model and tta_pipeline')
    message = error_of('test.py', DEFAULT_CONFIG, weights, '--tta', '--cfg-options', 'tta_model.module_=1', alone=True)
    assert message == (
        f'config {DEFAULT_CONFIG} with --tta: model.module_ is no argument of ReferringTTAModel; did you mean module?'
    )


@pytest.mark.parametrize(
    'name, arguments, expected',
    [
        (
            'dist_train.sh',
            ['c.py', '8', '--cfg-options', 'a=b c'],
            ['train.py', 'c.py', '--launcher', 'pytorch', '--cfg-options', 'a=b c'],
        ),
        (
            'dist_test.sh',
            ['c.py', 'w.pth', '8', '--tta'],
            ['test.py', 'c.py', 'w.pth', '--launcher', 'pytorch', '--tta'],
        ),
    ],
)
def test_dist_scripts_pass_everything_on(tmp_path, name, arguments, expected):
    done = run(
        ROOT / 'tools' / name,
        *arguments,
        cwd=tmp_path,
        env=dict(
            PYTHON=print_arguments(tmp_path / 'python'), NNODES='4', NODE_RANK='3', MASTER_ADDR='host', PORT='12345'
        ),
    )
    lines = [line.removeprefix(f'{ROOT}/tools/') for line in done.stdout.splitlines()]
    assert lines[:2] == ['-m', 'torch.distributed.run']
    assert lines[2:7] == [
        '--nnodes=4',
        '--node-rank=3',
        '--master-addr=host',
        '--master-port=12345',
        '--nproc-per-node=8',
    ]
    assert lines[7:] == expected


def test_machines_without_a_number_meet_by_rendezvous(tmp_path):
    done = run(
        ROOT / 'tools' / 'dist_train.sh',
        'c.py',
        '8',
        cwd=tmp_path,
        env=dict(PYTHON=print_arguments(tmp_path / 'python'), NNODES='4', MASTER_ADDR='host', RDZV_ID='7'),
    )
    assert done.stdout.splitlines()[2:7] == [
        '--nnodes=4',
        '--rdzv-backend=c10d',
        '--rdzv-endpoint=host:29500',
        '--rdzv-id=7',
        '--nproc-per-node=8',
    ]


@pytest.mark.parametrize(
    'name, arguments, expected',
    [
        (
            'slurm_train.sh',
            ['part', 'job', 'c.py', '--cfg-options', 'a=b c'],
            ['train.py', 'c.py', '--launcher', 'slurm', '--cfg-options', 'a=b c'],
        ),
        (
            'slurm_test.sh',
            ['part', 'job', 'c.py', 'w.pth', '--tta'],
            ['test.py', 'c.py', 'w.pth', '--launcher', 'slurm', '--tta'],
        ),
    ],
)
def test_slurm_scripts_pass_everything_on(tmp_path, name, arguments, expected):
    print_arguments(tmp_path / 'srun')
    done = run(
        ROOT / 'tools' / name,
        *arguments,
        cwd=tmp_path,
        env=dict(PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', GPUS='16', SRUN_ARGS='--quiet --time=1'),
    )
    lines = [line.removeprefix(f'{ROOT}/tools/') for line in done.stdout.splitlines()]
    assert lines[:2] == ['--partition=part', '--job-name=job']
    assert {'--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8', '--quiet', '--time=1'} <= set(lines)
    assert lines[-len(expected) :] == expected


def test_scripts_without_arguments_say_how_they_are_used():
    for name in ('dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'):
        done = run(ROOT / 'tools' / name)
        assert done.returncode == 2 and f'tools/{name}' in done.stderr


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
        ({'custom_imports.imports': ['mine']}, 'custom_imports is followed when the config is read; write it there$'),
    ],
)
def test_settings_that_would_do_nothing_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        load_config(CONFIG, cfg_options=options)


def test_variables_of_a_config_are_refused_for_the_places_they_went_to(tmp_path):
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


def test_settings_beside_those_of_the_config_arrive():
    options = dict(find_unused_parameters=True, resume=True, experiment_name='mine')
    cfg = load_config(CONFIG, cfg_options=options)
    assert {key: cfg[key] for key in options} == options
    # What mmengine's runner reads in its place.
    assert cfg.model_wrapper_cfg == dict(
        broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )


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
    with pytest.raises(InputError, match='--amp takes on GPUs before Ampere.*does not go with FSDP: train without'):
        enable_amp(Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-h_fsdp.py'))
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: (8, 0))
    assert switched('GuardedOptimWrapper') == dict(type='GuardedOptimWrapper', dtype='bfloat16')


def test_checkpoints_that_are_not_local_pass_the_check():
    check_checkpoint('https://example.com/a.pth')
    check_checkpoint(CONFIG)


@pytest.mark.parametrize(
    'setting, wanted',
    [
        ('work_dir', 'key=value'),
        ('a=[(1,2]', 'brackets and quotes that close, and no dict in a list'),
        ('custom_hooks=[dict(type=EMAHook,momentum=0.1)]', 'brackets and quotes that close, and no dict in a list'),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(setting, wanted, capsys):
    assert call_tool('train.py', CONFIG, '--cfg-options', setting) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f'train.py: error: argument --cfg-options: {setting} is not read: it wants {wanted}'


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
def test_settings_have_the_values_that_are_typed(text, value):
    """mmengine takes the spaces out of a single value too."""
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    options = parser.parse_args(['--cfg-options', f'a.b={text}', 'c=1']).cfg_options
    assert options == {'a.b': value, 'c': 1} and type(options['a.b']) is type(value)
