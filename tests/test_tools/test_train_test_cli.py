"""tools/train.py and tools/test.py: mmseg's arguments, clear errors, masks and views."""

import argparse
import copy
import os
import re
import runpy
import shlex
import signal
from concurrent.futures import ThreadPoolExecutor
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
from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras import StopSignalHook
from dit_sam.utils import lock_folder

CONFIG = str(ROOT / 'tests' / 'toy_config.py')
# mmseg 1.2.2: tools/train.py and tools/test.py, where --tta comes after --launcher
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
    '--tta',
    '--launcher',
    '--local_rank',
]
TOY_WEIGHTS = {'linear.weight': torch.tensor([[2.0]]), 'linear.bias': torch.tensor([0.0])}


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser that a tool builds, taken at the moment it would parse."""
    with mock.patch('argparse.ArgumentParser.parse_args', autospec=True, side_effect=SystemExit) as parse_args:
        call_tool(name)
    return parse_args.call_args.args[0]


@pytest.mark.parametrize('name, expected', [('train.py', TRAIN_ARGUMENTS), ('test.py', TEST_ARGUMENTS)])
def test_arguments_equal_mmsegs(name, expected):
    actions = [action for action in parser_of(name)._actions if action.dest != 'help']
    assert [(action.option_strings or [action.dest])[0] for action in actions] == expected
    assert actions[-1].option_strings == ['--local_rank', '--local-rank']
    launcher = next(action for action in actions if action.dest == 'launcher')
    assert launcher.choices == ['none', 'pytorch', 'slurm', 'mpi'] and launcher.default == 'none'


# The arguments before those of tools/train.py or tools/test.py, and the ones among them that are theirs.
POSITIONS = {
    'train.py': (1, [0]),
    'test.py': (2, [0, 1]),
    'dist_train.sh': (2, [0]),
    'dist_test.sh': (3, [0, 1]),
    'slurm_train.sh': (3, [2]),
    'slurm_test.sh': (4, [2, 3]),
}


@pytest.mark.parametrize('page', ['README.md', 'README_zh-CN.md', *sorted((ROOT / 'docs').glob('*.md'))], ids=str)
def test_commands_in_the_documentation_have_arguments_that_exist(page, capsys):
    text = (ROOT / page).read_text(encoding='utf-8')
    for block in re.findall(r'^```bash.*?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        for line in block.replace('\\\n', ' ').splitlines():
            found = re.search(r'tools/((?:dist_|slurm_)?(train|test)\.(?:py|sh)) (.*)', line)
            if not found or '"$' in line:
                continue
            name, kind, rest = found.groups()
            arguments, (count, own) = shlex.split(rest, comments=True), POSITIONS[name]
            assert len(arguments) >= count, line
            try:
                parser_of(f'{kind}.py').parse_args([*(arguments[index] for index in own), *arguments[count:]])
            except SystemExit:
                pytest.fail(f'{line}: {capsys.readouterr().err}')


@pytest.mark.parametrize(
    'name, arguments, message',
    [
        (
            'train.py',
            ['nowhere/none.py'],
            'config nowhere/none.py not found: dit-sam list-models names those of this project',
        ),
        ('train.py', ['toy_confg.py'], 'config toy_confg.py not found: did you mean toy_config.py?'),
        (
            'test.py',
            [CONFIG, 'none.pth'],
            'checkpoint none.pth not found: check the path; tools/train.py writes its checkpoints to the --work-dir',
        ),
        (
            'test.py',
            [CONFIG, 'test_engine'],
            'checkpoint test_engine is a folder: name a file in it; of a training with DeepSpeed, the best checkpoint '
            'of stage 2',
        ),
        (
            'test.py',
            [CONFIG, CONFIG, '--out', CONFIG],
            f'{CONFIG} cannot be written to: {CONFIG} is a file; name another place',
        ),
    ],
    ids=['config', 'misspelled config', 'checkpoint', 'folder as checkpoint', 'folder of masks'],
)
def test_a_wrong_path_gets_one_line_and_status_1(name, arguments, message, monkeypatch, error_of):
    monkeypatch.chdir(ROOT / 'tests')
    assert error_of(name, *arguments, alone=True) == message


def test_a_traceback_can_be_requested(tmp_path):
    """With the causes, and with the line at the end."""
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK\x03\x04')
    done = run_tool('test.py', CONFIG, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path, DIT_SAM_DEBUG='1')
    assert done.returncode == 1 and done.output.splitlines()[-1].startswith('error: checkpoint ')
    assert 'zipfile.BadZipFile: File is not a zip file' in done.output
    assert 'dit_sam.utils.checkpoints.CheckpointError: checkpoint ' in done.output


def test_a_file_that_is_not_a_checkpoint_gets_one_line_and_status_1(tmp_path):
    done = run_tool('test.py', CONFIG, CONFIG, '--work-dir', tmp_path)
    assert done.returncode == 1
    assert done.output.splitlines()[-1].startswith(f'error: checkpoint {CONFIG} is damaged or not a checkpoint')
    assert 'Traceback' not in done.output


def test_a_missing_file_in_a_data_loading_process_gets_one_line(tmp_path):
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
    """Python handles signals only in the main thread."""
    options = {'train_cfg.max_epochs': 1, 'experiment_name': 'in_a_thread'}
    runner = Runner.from_cfg(load_config(CONFIG, work_dir=str(tmp_path), cfg_options=options))
    with ThreadPoolExecutor(1) as threads:
        threads.submit(runner.train).result()
    assert (tmp_path / 'epoch_1.pth').is_file()
    (log,) = tmp_path.glob('*/*.log')
    assert 'Signals are not handled: the training does not run in the main thread' in log.read_text()


def test_a_second_training_of_a_runner_does_not_stop_for_the_signal_of_the_first(tmp_path):
    runner = Runner.from_cfg(load_config(CONFIG, work_dir=str(tmp_path), cfg_options=dict(experiment_name='signal')))
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, StopSignalHook))
    for _ in range(2):
        hook.before_train(runner)
        assert (hook._received, hook._has_stepped) == ([], False)
        hook._received, hook._has_stepped = [signal.SIGTERM], True
        hook.after_train(runner)
    assert runner.train_dataloader.worker_init_fn.args[0].func.__name__ == 'worker_init_fn'


def test_one_training_in_a_work_dir_at_a_time(tmp_path, error_of):
    """One after the other is allowed, also in one process; a test needs no lock."""
    train = ('train.py', CONFIG, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1')
    assert call_tool(*train, 'experiment_name=first') == 0
    with lock_folder(tmp_path, 'another training'):
        line = error_of(*train, 'experiment_name=refused')
        assert line.startswith(f'{tmp_path} is in use by another training (process {os.getpid()} on ')
        options = ('--work-dir', tmp_path, '--cfg-options', 'experiment_name=test')
        assert call_tool('test.py', CONFIG, tmp_path / 'epoch_1.pth', *options) == 0
    missing = 'train_dataloader.dataset.missing_file=pictures/1.jpg'
    error_of(*train, 'experiment_name=failed', missing)
    assert call_tool(*train, 'experiment_name=second') == 0


def test_a_start_in_the_folder_of_an_earlier_training_is_logged(tmp_path, capfd):
    train = ('train.py', CONFIG, '--work-dir', tmp_path)
    for switches, warnings in ([], 0), ([], 1), (['--resume'], 0):
        name = f'experiment_name=earlier_{warnings}_{len(switches)}'
        assert call_tool(*train, *switches, '--cfg-options', 'train_cfg.max_epochs=1', name) == 0
        output = ''.join(capfd.readouterr())
        line = f'{tmp_path}/epoch_1.pth is of an earlier training, and this one starts anew'
        assert output.count(line) == warnings


def test_a_batch_for_which_the_config_is_not_meant_is_logged(tmp_path, capfd):
    options = ['train_cfg.max_epochs=1', 'auto_scale_lr.base_batch_size=8', 'default_hooks.ema.type=EMAHook']
    train = ('train.py', CONFIG, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    for switch, line in (
        (
            'auto_scale_lr.enable=False',
            'A step has 2 items, and the learning rate and the averaged weights are meant for 8: --cfg-options auto_',
        ),
        ('auto_scale_lr.enable=True', 'the momentum of EMAHook is 5e-05, which is 1 - (1 - 0.0002)^0.25'),
    ):
        assert call_tool(*train, switch, f'experiment_name={switch}') == 0
        assert ''.join(capfd.readouterr()).count(line) == 1


def test_a_training_from_a_whole_checkpoint_needs_no_initial_weights(tmp_path, capfd):
    options = ['train_cfg.max_epochs=1', 'model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=none.pth']
    first = ('train.py', CONFIG, '--work-dir', tmp_path / 'first', '--cfg-options', options[0])
    assert call_tool(*first, 'experiment_name=whole_first') == 0
    second = ('train.py', CONFIG, '--work-dir', tmp_path / 'second', '--cfg-options', *options)
    assert call_tool(*second, 'experiment_name=whole_without') == 1
    start = tmp_path / 'first' / 'epoch_1.pth'
    capfd.readouterr()
    assert call_tool(*second, 'experiment_name=whole_with', f'load_from={start}') == 0
    assert f'All weights come from {start}: init_cfg is not read' in ''.join(capfd.readouterr())
    partly = ('default_hooks.checkpoint.strict_load=False', 'experiment_name=whole_partly')
    assert call_tool(*second, f'load_from={start}', *partly) == 1


def test_resume_continues_in_mixed_precision(tmp_path):
    cfg = load_config(CONFIG, work_dir=str(tmp_path), cfg_options={'train_cfg.max_epochs': 1})
    Runner.from_cfg(cfg).train()
    done = run_tool('train.py', CONFIG, '--work-dir', tmp_path, '--resume', '--amp')
    assert done.returncode == 0, done.output
    assert 'resumed epoch: 1, iter: 4' in done.output
    assert torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['meta']['iter'] == 8
    assert Config.fromfile(tmp_path / 'toy_config.py').optim_wrapper.dtype == 'bfloat16'


def test_mixed_precision_stays_in_float32_on_a_cpu_without_bfloat16(tmp_path):
    """Each product would take dozens of times as long there; the variable makes oneDNN treat this CPU as such a one."""
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
    """With our model even if the config names mmseg's, which treats probabilities as logits."""
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


def test_tta_keeps_the_ground_truth_of_the_ordinary_test():
    """Also in nested data sets, each with its own."""
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


def test_tta_errors_name_the_config_key(tmp_path, error_of):
    weights = tmp_path / 'weights.safetensors'
    save_file(TOY_WEIGHTS, weights)
    line = error_of('test.py', CONFIG, weights, '--tta', alone=True)
    assert line.startswith('--tta needs tta_model and tta_pipeline')
    message = error_of('test.py', DEFAULT_CONFIG, weights, '--tta', '--cfg-options', 'tta_model.module_=1', alone=True)
    assert message == (
        f'config {DEFAULT_CONFIG} with --tta: model.module_ is not an argument of ReferringTTAModel; '
        'did you mean module?'
    )
