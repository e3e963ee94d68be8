"""Gaps of the environment. Most cases need their own interpreter, because imports cannot be undone."""

import subprocess
import sys

import pytest
import torch
from mmcv.utils import collect_env
from mmcv.utils.ext_loader import check_ops_exist
from mmengine import device
from mmengine.config import Config

from dit_sam import compat, registry
from dit_sam.apis import ReferringInferencer
from dit_sam.apis.model_source import check_dtype
from dit_sam.errors import InputError
from dit_sam_cli import files

# Run before anything else: `compat` alone, without the package that calls it.
COMPAT_ALONE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location('compat', {compat.__file__!r})
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
"""
# A torchvision that is installed but fails, like one built for another torch.
BROKEN_TORCHVISION = 'raise RuntimeError("operator torchvision::nms does not exist\\nsecond line")'
without_ops = pytest.mark.skipif(check_ops_exist(), reason='the full mmcv is installed')


def run(code: str, *folders) -> str:
    """Run code in a fresh interpreter that looks for modules in the folders first; return what it prints."""
    path = f'import sys; sys.path[:0] = {[str(folder) for folder in folders]!r}\n'
    done = subprocess.run([sys.executable, '-c', path + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_package(folder, **files: str):
    folder.mkdir()
    for name, content in files.items():
        (folder / f'{name}.py').write_text(content)


@pytest.mark.parametrize(
    'package, name', [('mmseg', 'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512'), ('mmdet', 'detr/detr_r50_8xb2-150e_coco')]
)
def test_the_packages_own_configs_are_found_in_either_family(package, name, tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(f"_base_ = '{package}::{name}.py'\n")
    assert Config.fromfile(config).model.backbone.depth == 50


@without_ops
def test_a_missing_op_is_named_with_its_requirement():
    from mmcv.ops import nms

    with pytest.raises(RuntimeError, match="op 'nms' needs the full mmcv"):
        nms(torch.rand(2, 4), torch.rand(2), 0.5)


@without_ops
def test_the_compilers_of_missing_ops_are_reported_as_absent():
    assert collect_env()['MMCV Compiler'] == 'n/a'


def test_installing_twice_changes_nothing():
    before = sys.modules['mmcv._ext']
    compat.install()
    assert sys.modules['mmcv._ext'] is before


def test_existing_ops_are_not_replaced(tmp_path):
    write_package(tmp_path / 'mmcv', __init__='', _ext='real = True')
    assert run(COMPAT_ALONE + 'compat.install()\nimport mmcv._ext\nprint(mmcv._ext.real)', tmp_path) == 'True'


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    hide = "real = compat.find_spec\ncompat.find_spec = lambda name: None if name == 'mmseg' else real(name)\n"
    check = 'try: compat.install()\nexcept ImportError as error: print(error)'
    message = run(COMPAT_ALONE + hide + check)
    assert message.startswith("dit_sam needs the module 'mmseg', which is not installed")
    assert '\n' not in message


@pytest.mark.parametrize('torchvision', [None, BROKEN_TORCHVISION], ids=['missing', 'broken'])
def test_sam_modeling_without_torchvision(tmp_path, torchvision):
    write_package(tmp_path / 'torchvision', __init__=torchvision or 'raise ModuleNotFoundError("no torchvision")')
    output = run(
        COMPAT_ALONE + 'import pickle\n'
        'modeling = compat.import_sam_modeling()\n'
        'assert modeling is compat.import_sam_modeling()\n'
        'assert pickle.loads(pickle.dumps(modeling.MaskDecoder)) is modeling.MaskDecoder\n'
        'from segment_anything.utils import amg\n'
        'try: from segment_anything import SamPredictor\n'
        'except ImportError as error: print(error)',
        tmp_path,
    )
    assert output.startswith("'SamPredictor' of segment_anything needs torchvision")
    assert '\n' not in output


def test_segment_anything_is_not_replaced_if_torchvision_works(tmp_path):
    write_package(tmp_path / 'torchvision', __init__='')
    write_package(tmp_path / 'segment_anything', __init__='import torchvision\npredictor = True')
    write_package(tmp_path / 'segment_anything' / 'modeling', __init__='')
    output = run(
        COMPAT_ALONE + 'compat.import_sam_modeling()\nimport segment_anything\nprint(segment_anything.predictor)',
        tmp_path,
    )
    assert output == 'True'


class FakeTensor:
    """Notes how it is copied; an Apple GPU is not here."""

    def to(self, device, non_blocking):
        return device, non_blocking


def test_apples_gpu_is_used_on_request_only(monkeypatch):
    """And is given tensors without the asynchronous copies that returned wrong values (pytorch #139550)."""
    assert compat.to_device(FakeTensor(), 'mps') == ('mps', False)
    assert compat.to_device(FakeTensor(), 'cuda:1') == ('cuda:1', True)
    config = Config(dict(env_cfg=dict(mp_cfg=dict(mp_start_method='fork'))))
    compat.use_usual_device(config)
    assert (device.utils.DEVICE, config.env_cfg.mp_cfg.mp_start_method) == (compat.usual_device(), 'fork')
    monkeypatch.setattr(device.utils, 'DEVICE', 'mps')
    inferencer = ReferringInferencer(show_progress=False)
    assert next(inferencer.model.parameters()).device.type == 'cpu'
    assert device.get_device() == 'mps', 'other parts of the program keep it'
    with pytest.raises(InputError, match='float16 is for GPUs'):
        check_dtype('float16', None)
    assert check_dtype('float16', 'mps') is torch.float16
    monkeypatch.setattr(sys, 'platform', 'darwin')
    compat.use_usual_device(config)
    assert (device.get_device(), config.env_cfg.mp_cfg.mp_start_method) == ('cpu', 'spawn')


def test_a_checkout_without_symbolic_links_finds_its_configs(tmp_path, monkeypatch):
    """Git on Windows writes each link as a text file with its target."""
    package = tmp_path / 'projects' / 'dit_sam'
    (package / '.mim').mkdir(parents=True)
    (tmp_path / 'configs').mkdir()
    for name in ('configs', 'tools', 'model-index.yml'):
        (package / '.mim' / name).write_text(f'../../../{name}')
    monkeypatch.setattr(registry, '__file__', str(package / 'registry.py'))
    monkeypatch.setattr(files, 'package_folder', lambda: package)
    assert registry.config_folder() == files.mim_folder() / 'configs' == tmp_path / 'configs'
