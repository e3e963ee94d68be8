"""The console script `dit-sam`, also installed without a checkout."""

import argparse
import configparser
import runpy
import sys
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from dit_sam import cli
from dit_sam.apis import ASSETS, DEFAULT_CHECKPOINT, config_folder, model_source
from dit_sam.cli import list_models
from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.config_options import add_config_options

ROOT = Path(__file__).parents[2]


def dit_sam(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, 'argv', ['dit-sam', *arguments])
    cli.main()


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
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['ldit_vit-t_shapes', 'shapes', 'shipped'] in lines
    assert ['ldit_vit-b', 'RefCOCO', 'val', '71.98'] in lines
    named = {line[0] for line in lines[1 : lines.index([])]}
    assert all((config_folder() / 'dit_sam' / f'{name}.py').is_file() for name in named)
    assert {path.stem for path in ASSETS.glob('*.safetensors')} < named


def test_the_environment_is_printed_for_bug_reports(monkeypatch, capsys):
    dit_sam(monkeypatch, 'collect-env')
    lines = dict(line.split(': ', 1) for line in capsys.readouterr().out.splitlines() if ': ' in line)
    assert lines['Python'].startswith(sys.version.split()[0])
    assert lines['torch'] == f'torch {torch.__version__}' and lines['mmengine'].endswith(mmengine.__version__)
    assert 'not installed' not in lines.values()


def test_help_and_unknown_commands(monkeypatch, capsys):
    for arguments in ([], ['--help']):
        dit_sam(monkeypatch, *arguments)
        printed = capsys.readouterr().out
        assert all(f'dit-sam {name}' in printed for name in cli.COMMANDS)
    code, line = error_of(monkeypatch, capsys, 'segment')
    assert (code, line) == (
        2,
        "error: dit-sam has no command 'segment'; there are infer, list-models, collect-env, demo",
    )


def test_without_a_checkout_the_installed_configs_are_used(monkeypatch, tmp_path, capsys):
    (tmp_path / 'share' / 'configs' / 'dit_sam').mkdir(parents=True)
    (tmp_path / 'share' / 'configs' / 'dit_sam' / 'metafile.yml').touch()
    monkeypatch.setattr(model_source, '_PACKAGE', tmp_path / 'lib' / 'site-packages' / 'dit_sam')

    class File(type(Path())):
        def locate(self):
            return tmp_path / self

    monkeypatch.setattr(model_source, 'files', lambda name: [File('a.py'), File('share/configs/dit_sam/metafile.yml')])
    assert model_source.config_folder() == tmp_path / 'share' / 'configs'
    monkeypatch.setattr(model_source, 'files', lambda name: None)
    for module in (cli, list_models):
        monkeypatch.setattr(module, 'config_folder', model_source.config_folder)
    code, line = error_of(monkeypatch, capsys, 'demo')
    assert code == 1 and line.endswith('clone the repository and call `make demo` there')
    code, line = error_of(monkeypatch, capsys, 'list-models')
    assert code == 1 and line.endswith('not found: reinstall the package, or run in a checkout of the repository')


def test_an_installation_has_every_config():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    installed = {
        (Path(target).relative_to('share/dit_sam'), path.name)
        for target, patterns in setup['options.data_files'].items()
        for pattern in patterns.split()
        for path in ROOT.glob(pattern)
    }
    assert installed == {
        (path.parent.relative_to(ROOT), path.name)
        for suffix in ('py', 'yml', 'md')
        for path in (ROOT / 'configs').rglob(f'*.{suffix}')
    }


def test_the_settings_of_the_demo_fit_its_config():
    demo = runpy.run_path(str(ROOT / 'tools' / 'demo.py'))
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    options = parser.parse_args(['--cfg-options', *demo['TRAINING'].format(start=DEFAULT_CHECKPOINT).split()])
    cfg = load_config(str(ROOT / demo['CONFIG']), cfg_options=options.cfg_options)
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert tuple(cfg.train_dataloader.dataset.pipeline[2].scale) == (64, 64)
    assert cfg.param_scheduler[0].end < cfg.train_cfg.max_epochs * 240 // 8
