"""The console script `dit-sam`, also installed without a checkout."""

import argparse
import configparser
import re
import runpy
import subprocess
import sys
from glob import glob
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
import walk
from mmseg.registry import MODELS

import dit_sam_cli
from dit_sam.apis import ASSETS, DEFAULT_CHECKPOINT, IMAGE_SUFFIXES, config_folder
from dit_sam.apis.released import released_models
from dit_sam.engine.launch import load_config
from dit_sam.models.weights.conversion import ARCHS
from dit_sam_cli.arguments import SAM_ARCHS, add_config_options
from dit_sam_cli.files import mim_folder, package_folder
from dit_sam_cli.infer import IMAGE_SUFFIXES as SUFFIXES

ROOT = Path(__file__).parents[2]
# What no help, list or refusal needs, and takes seconds.
HEAVY = {'torch', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'transformers', 'peft', 'cv2', 'gradio', 'dit_sam'}
PROGRAMS = sorted(
    path
    for folder in ('tools', 'benchmarks', 'reproduction')
    for path in (ROOT / folder).rglob('*.py')
    if "if __name__ == '__main__':" in path.read_text()
)


def dit_sam(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, 'argv', ['dit-sam', *arguments])
    dit_sam_cli.main()


def error_of(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit:
        dit_sam(monkeypatch, *arguments)
    return exit.value.code, capsys.readouterr().err.splitlines()[-1]


def test_infer_equals_the_tool(monkeypatch, capsys, tmp_path):
    picture = str(tmp_path / 'photo.png')
    cv2.imwrite(picture, np.full((30, 40, 3), 200, np.uint8))
    dit_sam(monkeypatch, 'infer', picture, 'the red star', '--out', str(tmp_path / 'out'), '--format', 'npz')
    assert capsys.readouterr().out.endswith(str(tmp_path / 'out' / 'predictions_1.npz') + '\n')
    code, line = error_of(monkeypatch, capsys, 'infer', picture, ' ')
    assert (code, line) == (1, f'error: sentence 1 of 1 for {picture} is empty: say what to segment')
    with pytest.raises(SystemExit):
        dit_sam(monkeypatch, 'infer', '--help')
    assert 'usage: dit-sam infer' in capsys.readouterr().out


def test_models_are_listed_with_their_figures_and_weights(monkeypatch, capsys):
    dit_sam(monkeypatch, 'list-models')
    weights, _, configs, _ = capsys.readouterr().out.split('\n\n')
    rows = {line.split()[0]: line for line in weights.splitlines()[1:]}
    assert {path.stem for path in ASSETS.glob('*.safetensors')} | set(released_models()) == set(rows)
    assert rows['ldit_vit-t_shapes'].endswith('in the package') and 'drawing' in rows['ldit_vit-t_shapes']
    assert re.search(r'photograph +2.6 GB +Apache-2.0 +83.7 \(RefCOCO testA\) +fetched at first use', rows['evf-sam'])
    lines = [line.split() for line in configs.splitlines()]
    assert ['dit_sam/ldit_vit-b', 'RefCOCO', 'val', '71.98'] in lines
    assert {f'{line[0]}.py' for line in lines[1:]} == set(walk.NAMES)


def test_a_fetched_model_is_listed_as_such(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('HF_HOME', str(tmp_path))
    snapshot = tmp_path / 'hub' / 'models--YxZhang--evf-sam' / 'snapshots' / 'a1'
    snapshot.mkdir(parents=True)
    (snapshot / 'pytorch_model.bin').touch()
    dit_sam(monkeypatch, 'list-models')
    assert 'fetched from hf://YxZhang/evf-sam\n' in capsys.readouterr().out


def test_the_environment_is_printed_for_bug_reports(monkeypatch, capsys):
    dit_sam(monkeypatch, 'collect-env')
    lines = dict(line.split(': ', 1) for line in capsys.readouterr().out.splitlines() if ': ' in line)
    assert lines['Python'].startswith(sys.version.split()[0])
    assert lines['torch'] == f'torch {torch.__version__}' and lines['mmengine'].endswith(mmengine.__version__)
    assert 'not installed' not in lines.values()


def imported(*codes: str) -> tuple[list[int], set[str], str]:
    """The statuses with which programs end one after the other in a process, its heavy modules, and its stderr."""
    program = f"""
import runpy, sys
for code in {codes!r}:
    try:
        exec(code)
    except SystemExit as exit:
        print('STATUS', exit.code or 0)
print('IMPORTED', *{{name.partition('.')[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    statuses = [int(line[1]) for line in lines if line[:1] == ['STATUS']]
    return statuses, HEAVY.intersection(*(line for line in lines if line[:1] == ['IMPORTED'])), done.stderr


@pytest.mark.parametrize('path', PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_help_of_every_program_imports_nothing_heavy(path):
    # Each on its own, as the programs are called: from the folder of the program.
    code = f'sys.path.insert(0, {str(path.parent)!r}); sys.argv = [{str(path)!r}, {{}}]; '
    code += f"runpy.run_path({str(path)!r}, run_name='__main__')"
    statuses, modules, stderr = imported(code.format("'--help'"), code.format("'--no-such-option'"))
    assert (statuses, modules) == ([0, 2], set()) and 'error: ' in stderr


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['list-models'], ''),
        (['infer', 'a star', 'a circle'], "no image among the arguments: 'a star'"),
        (['infer', 'none.jpg', 'a star'], 'image none.jpg not found: check the path'),
        (['infer', __file__, 'a star', '--config', __file__], '--config without --checkpoint: name the weights'),
        (
            ['infer', __file__, 'a star', '--checkpoint', f'{__file__}x'],
            f'not found: did you mean {Path(__file__).name}?',
        ),
        (['infer', __file__, 'a star', '--points', '1,2;3'], "--points '1,2;3' is not groups of numbers like"),
        (['audit', '--train', __file__, '--test', 'none.p:val'], '--test none.p:val not found: check the path'),
        (['infer', __file__, 'a star', '--batch-size', '0'], '--batch-size must be 1 or more, got 0'),
    ],
)
def test_commands_that_need_no_model_import_nothing_heavy(arguments, message):
    code = f'import dit_sam_cli; sys.argv = {["dit-sam", *arguments]!r}; dit_sam_cli.main(); sys.exit()'
    statuses, modules, stderr = imported(code)
    assert (statuses, modules) == ([bool(message)], set())
    assert message in stderr and len(stderr.splitlines()) == bool(message)


def test_what_the_command_line_knows_by_itself_is_as_in_the_package():
    assert SUFFIXES == IMAGE_SUFFIXES and SAM_ARCHS == ARCHS
    assert package_folder() / 'assets' == ASSETS and mim_folder() / 'configs' == config_folder()


def test_inference_does_not_import_the_trainer_of_transformers_which_works_afterwards():
    program = """
import sys
from dit_sam_cli.infer import import_packages
import_packages()
print(*sorted({'dit_sam', 'peft', 'transformers.trainer_utils'}.intersection(sys.modules)))
from transformers import Adafactor
"""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ['dit_sam']), done.stderr


def test_help_and_unknown_commands(monkeypatch, capsys):
    for arguments in ([], ['--help']):
        dit_sam(monkeypatch, *arguments)
        printed = capsys.readouterr().out
        assert all(f'dit-sam {name}' in printed for name in dit_sam_cli.COMMANDS)
    code, line = error_of(monkeypatch, capsys, 'segment')
    assert (code, line) == (2, "error: dit-sam has no command 'segment'; there are " + ', '.join(dit_sam_cli.COMMANDS))


def test_an_installation_has_every_config_and_tool():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    package = ROOT / 'projects' / 'dit_sam'

    def matched(section: str) -> set[str]:
        patterns = [line for line in setup[section]['dit_sam'].splitlines() if line.startswith('.mim')]
        return {path for pattern in patterns for path in glob(pattern, root_dir=package, recursive=True)}

    files = {
        f'.mim/{path.relative_to(ROOT)}'
        for folder in ('configs', 'tools')
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and path.suffix != '.pyc'
    }
    # It sets up a checkout.
    assert matched('options.exclude_package_data') == {'.mim/tools/setup_environment.py'} < files
    assert matched('options.package_data') == files | {'.mim/model-index.yml'}


def test_the_tools_run_as_commands(monkeypatch, tmp_path):
    """In their own process; tests/wheel.py runs them from a wheel."""
    command = 'import sys, dit_sam_cli; sys.argv = ["dit-sam", "train", "dit_sam::none.py"]; dit_sam_cli.main()'
    done = subprocess.run([sys.executable, '-c', command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f'error: config {config_folder() / "dit_sam" / "none.py"} not found: ' + (
        'dit-sam list-models names those of this project'
    )


def test_the_settings_of_the_demo_fit_its_config():
    demo = runpy.run_path(str(ROOT / 'tools' / 'demo.py'))
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    args = parser.parse_args(['--cfg-options', *demo['TRAINING'].format(start=DEFAULT_CHECKPOINT).split()])
    cfg = load_config(str(ROOT / demo['CONFIG']), cfg_options=args.cfg_options)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert tuple(cfg.train_dataloader.dataset.pipeline[2].scale) == (64, 64)
    assert cfg.param_scheduler[0].end < cfg.train_cfg.max_epochs * 240 // 8
