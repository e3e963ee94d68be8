"""mmengine's pure Python configs, which name parts by imported classes, work as those that name them by strings."""

import re
import runpy
from importlib import import_module
from pathlib import Path

import mmcv.transforms
import pytest
from mmengine.config import Config
from mmengine.registry import METRICS
from mmseg.registry import TRANSFORMS
from processes import ROOT

from dit_sam.apis import DEFAULT_CONFIG
from dit_sam.apis.shared_config import read_config_text, shared_config
from dit_sam.engine.launch import load_config
from dit_sam.mmengine_extras.config_check import registered_name

# Packages from which a user would import the classes.
PACKAGES = ('dit_sam.models', 'dit_sam.datasets', 'dit_sam.evaluation', 'mmseg.datasets.transforms', 'mmcv.transforms')


@pytest.fixture(scope='module')
def named() -> Config:
    """A config of this project, in which types are names."""
    cfg = load_config(DEFAULT_CONFIG)
    return Config({key: cfg[key] for key in cfg if key not in ('launcher', 'work_dir')})


@pytest.fixture
def pure(named, tmp_path) -> Path:
    """The file of the same config with imported classes."""
    imports = set()

    def kind(found: re.Match) -> str:
        package = next((each for each in PACKAGES if hasattr(import_module(each), found[1])), None)
        imports.add(f'from {package} import {found[1]}\n' if package else '')
        return f'type={found[1]}' if package else found[0]

    text = re.sub(r"\btype='(\w+)'", kind, named.pretty_text)
    file = tmp_path / Path(DEFAULT_CONFIG).name
    file.write_text(''.join([*sorted(imports), text]), encoding='utf-8')
    assert 'from dit_sam.models import DITViT\n' in imports and len(imports) > 8
    return file


def test_it_is_read_as_the_config_with_names(named, pure):
    assert isinstance(Config.fromfile(pure).model.type, type)
    cfg = load_config(str(pure))
    assert {key: value for key, value in cfg.to_dict().items() if key in named} == named.to_dict()


@pytest.mark.parametrize('scope', ["'mmdet'", 'None'])
def test_in_other_scopes_names_have_their_scope(pure, scope):
    text, count = re.subn("default_scope ?= ?'mmseg'", f'default_scope = {scope}', pure.read_text(encoding='utf-8'))
    assert count == 1
    pure.write_text(text, encoding='utf-8')
    cfg = load_config(str(pure))
    assert (cfg.model.type, cfg.val_evaluator.type) == ('mmseg.ReferringSegmentor', 'mmseg.ReferringIoU')
    assert METRICS.build(cfg.val_evaluator)


def test_it_can_be_written_after_the_tools_have_changed_it(pure):
    cfg = load_config(str(pure))
    tool = runpy.run_path(str(ROOT / 'tools' / 'test.py'))
    tool['augment'](cfg)
    tool['add_mask_writer'](cfg, 'masks')
    assert len(re.findall("type='LoadReferringMask'", cfg.pretty_text)) > 2


def test_a_checkpoint_of_it_can_be_shared(named, pure):
    """mmengine's and mmseg's tools write paths of classes into it, such as dit_sam.models.DITViT."""
    cfg = Config.fromfile(pure)
    written = read_config_text(cfg.pretty_text, 'a checkpoint')
    assert 'dit_sam.models.DITViT' in str(written)
    for config in (cfg, written):
        assert shared_config(config) == shared_config(named)


def test_a_class_keeps_its_meaning():
    """Where two have one name, and where none is registered."""
    name = registered_name('mmcv.transforms.Resize')
    assert name != 'Resize' and TRANSFORMS.get(name) is mmcv.transforms.Resize
    assert registered_name('mmseg.datasets.Resize') == 'Resize'
    for path in ('os.system', 'my_project.models.DITViT', 'DITViT', ''):
        assert registered_name(path) == path
