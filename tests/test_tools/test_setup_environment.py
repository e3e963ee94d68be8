"""The rules of the setup. The setup itself is tested by the environment in which these tests run."""

import importlib.util
import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
UPSTREAM = dict(mmengine='mmengine', mmcv='mmcv-lite', mmseg='mmsegmentation', mmdet='mmdet')
FORKS = dict(mmengine='onedl-mmengine', mmcv='onedl-mmcv', mmseg='onedl-mmsegmentation', mmdet='onedl-mmdetection')


def load_tool():
    spec = importlib.util.spec_from_file_location('setup_environment', ROOT / 'tools' / 'setup_environment.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup = load_tool()


def found(owners=UPSTREAM, torch='2.13.0', python=(3, 11)) -> dict:
    versions = dict(dict(torch=torch) if torch else {}, mmcv='2.1.0')
    return dict(owners=owners, versions=versions, python=python, torch_needs=['sympy==1.13.1', 'setuptools; 1 > 0'])


def names(requirements) -> set:
    return {Requirement(line).name for line in requirements}


def test_every_requirement_has_a_tested_version_that_satisfies_it():
    tested = {Requirement(line).name.lower(): Requirement(line) for line in setup.lines_of(setup.CONSTRAINTS)}
    for wanted in map(Requirement, setup.listed()):
        pin = next(iter(tested[wanted.name.lower()].specifier))
        assert pin.operator == '==' and wanted.specifier.contains(pin.version), wanted


def test_the_tested_torch_is_required_unless_installed():
    assert setup.torch_requirements(found(torch=None)) == ['torch==2.13.0']
    assert setup.torch_requirements(found(torch='2.6.0+cu124')) == []
    assert setup.torch_requirements(found(torch=None), cuda=True) == ['torch==2.14.1', 'torchvision==0.29.1']
    assert setup.torch_requirements(found(torch='2.14.1+cu130'), cuda=True) == []


def test_an_old_torch_is_an_error(capsys):
    with pytest.raises(SystemExit):
        setup.torch_requirements(found(torch='2.5.1'))
    assert 'torch 2.5.1 is too old: dit_sam needs torch>=2.6' in capsys.readouterr().err


def test_a_torch_without_cuda_is_an_error(capsys):
    with pytest.raises(SystemExit):
        setup.torch_requirements(found(torch='2.13.0+cpu'), cuda=True)
    assert 'the installed torch 2.13.0+cpu has no CUDA' in capsys.readouterr().err


@pytest.mark.parametrize(
    'torch, python, pinned', [('2.13.0+cpu', (3, 11), True), ('2.6.0+cu124', (3, 12), True), ('2.6.0', (3, 10), False)]
)
def test_the_installed_torch_is_kept_and_the_rest_pinned(torch, python, pinned):
    pins = setup.pins(found(torch=torch, python=python))
    assert [line for line in pins if line.startswith('torch==')] == [f'torch=={torch}']
    assert any(line.startswith('transformers==') for line in pins) is pinned


def test_what_another_torch_requires_is_its_own_choice():
    """With both pins pip would find no solution."""
    pinned = {torch: names(setup.pins(found(torch=torch))) for torch in ('2.13.0+cpu', '2.6.0+cu124')}
    assert pinned['2.13.0+cpu'] - pinned['2.6.0+cu124'] == {'sympy'} and 'setuptools' in pinned['2.6.0+cu124']


def test_the_oldest_versions_are_the_lower_bounds_of_setup_cfg():
    assert setup.torch_requirements(found(torch=None), oldest=True) == ['torch==2.6']
    pins = {Requirement(line).name: Requirement(line) for line in setup.pins(found(torch='2.6.0'), oldest=True)}
    listed = {Requirement(line).name: Requirement(line) for line in setup.listed()}
    assert {'mmengine', 'mmcv-lite', 'mmsegmentation', 'mmdet', 'transformers', 'numpy', 'pytest'} <= set(pins)
    for name, pin in pins.items():
        (bound,) = (clause for clause in pin.specifier if clause.operator in ('==', '>='))
        assert listed[name].specifier.contains(bound.version, prereleases=True), name


def test_forks_and_a_full_mmcv_are_kept():
    assert set(UPSTREAM.values()) <= names(setup.requirements(found()))
    assert not set(UPSTREAM.values()) & names(setup.requirements(found(FORKS)))
    assert 'mmcv-lite' not in names(setup.requirements(found(dict(UPSTREAM, mmcv='mmcv'))))


def test_an_incomplete_fork_is_an_error(capsys):
    for owners in (FORKS, {}, UPSTREAM, dict(UPSTREAM, mmcv='mmcv')):
        setup.check_family(found(owners), Path('venv'))
    setup.check_family(found(FORKS), Path('venv'), forks=True)
    with pytest.raises(SystemExit):
        setup.check_family(found(dict(mmengine='onedl-mmengine', mmcv='onedl-mmcv')), Path('venv'))
    assert 'venv has onedl-mmengine but not mmseg, mmdet' in capsys.readouterr().err


def test_packages_that_do_not_go_together_are_an_error(capsys):
    with pytest.raises(SystemExit):
        setup.check_family(found(), Path('venv'), forks=True)
    assert 'venv has mmengine, mmcv-lite, mmsegmentation, mmdet, which the forks replace' in capsys.readouterr().err
    new = found(dict(UPSTREAM, mmcv='mmcv'))
    new['versions']['mmcv'] = '2.2.0'
    with pytest.raises(SystemExit):
        setup.check_family(new, Path('venv'))
    assert 'venv has mmcv 2.2.0, and mmseg and mmdet take 2.1 to 2.1.x' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        setup.torch_requirements(found(), oldest=True)
    assert 'the installed torch 2.13.0 is not the oldest' in capsys.readouterr().err


def test_an_unchanged_environment_is_kept(tmp_path, monkeypatch):
    (tmp_path / 'bin').mkdir()
    python = tmp_path / 'bin' / 'python'
    python.symlink_to(sys.executable)
    steps = []
    monkeypatch.setattr('sys.argv', ['setup_environment.py', '--venv', str(tmp_path)])
    monkeypatch.setattr(setup, 'install', lambda *_, **options: steps.append(options))
    setup.main()
    setup.main()
    none = dict(forks=False, cuda=False, oldest=False)
    assert steps == [none]
    stamp = tmp_path / '.dit_sam_setup.json'
    for earlier in (
        json.dumps(dict(json.loads(stamp.read_text()), inputs='of an older setup.cfg')),
        '{"forks": fa',
        '',
    ):
        stamp.write_text(earlier)
        setup.main()
    assert steps == [none] * 4
    # What is asked for is tried, whatever was asked before.
    monkeypatch.setattr('sys.argv', ['setup_environment.py', '--venv', str(tmp_path), '--forks'])
    setup.main()
    assert steps[4:] == [dict(none, forks=True)]


def test_an_environment_without_pip_gets_it(tmp_path):
    """As `uv venv` makes it; its Python stays."""
    venv.create(tmp_path, symlinks=True)
    python = tmp_path / 'bin' / 'python'
    before = python.resolve()
    setup.add_pip(python, tmp_path)
    setup.add_pip(python, tmp_path)
    assert subprocess.run([python, '-m', 'pip', '--version'], capture_output=True).returncode == 0
    assert python.resolve() == before
