"""Valid configs pass, and errors name key and remedy; tests/test_robustness tries many more invalid ones."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.config_check import check_config, fits


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    init_default_scope('mmseg')


@pytest.mark.parametrize(
    'value, hint',
    [
        (1, int),
        (1, float),
        (0.5, float),
        (None, int | None),
        ('a', str | dict),
        (dict(a=1), str | dict),
        ([1, 2], tuple[int, int]),
        ((1,), Sequence[int]),
        ([], Sequence[str]),
        (['a'], str | Sequence[str]),
        ((1, 2, 3), tuple[int, ...]),
        ([dict(a=1)], dict | list[dict]),
        (dict(type='SGD'), nn.Module),
        (3, Any),
        ('a', Any),
        (len, Callable),
        (True, bool),
    ],
)
def test_values_that_fit(value, hint):
    assert fits(value, hint)


@pytest.mark.parametrize(
    'value, hint',
    [
        (True, int),
        (0.5, int),
        ('1', int),
        ('0.5', float),
        (None, int),
        ('ab', Sequence[str]),
        ([1, 2, 3], tuple[int, int]),
        ([1, 'a'], Sequence[int]),
        (1, str | dict),
        ({}, str | None),
        (1, bool),
        ('yes', bool),
        ({'a': 1}, Sequence[str]),
    ],
)
def test_values_that_do_not_fit(value, hint):
    assert not fits(value, hint)


@MODELS.register_module()
class TakesAnything(nn.Module):
    def __init__(self, width: int = 1, **kwargs) -> None:
        super().__init__()


@pytest.mark.parametrize(
    'model',
    [
        dict(type='TakesAnything', width=2, anything=3),
        dict(type=TakesAnything, anything=3),
        dict(type='torch.nn.ReLU', inplace=True),
        dict(
            type='FCNHead', in_channels=8, channels=8, num_classes=2, norm_cfg=dict(type='SyncBN', requires_grad=True)
        ),
        dict(type='mmdet.FPN', in_channels=[8], out_channels=8, num_outs=1),
        dict(type='SAMViT', init_cfg=[dict(type='Normal', layer='Linear', std=0.01, override=dict(name='neck'))]),
    ],
)
def test_parts_of_other_projects_pass(model):
    check_config(dict(model=model, anything_of_ones_own=dict(type='nothing')), 'mine.py')


@pytest.mark.parametrize(
    'model, message',
    [
        (dict(type='SAMViT', arhc='base'), 'mine.py: model.arhc is not an argument of SAMViT; did you mean arch?'),
        (
            dict(type='DITViT', window_sise=7),
            'mine.py: model.window_sise is not an argument of DITViT; did you mean window_size?',
        ),
        (dict(type='DITVit'), "mine.py: model.type='DITVit' is not registered; did you mean DITViT?"),
        (dict(type='SAMHead', depth='2'), "mine.py: model.depth='2' has type str, and SAMHead expects int"),
        (
            dict(type='ReferringSegmentor', decode_head=dict(type='SAMHead')),
            'mine.py: model lacks backbone, which ReferringSegmentor needs',
        ),
        (
            dict(type='EncoderDecoder', backbone=dict(type='ResNet', dept=50)),
            'mine.py: model.backbone.dept is not an argument of ResNet; did you mean depth?',
        ),
        (dict(type=3), 'mine.py: model.type=3 is neither a name nor a class'),
    ],
)
def test_the_message_names_key_and_remedy(model, message):
    with pytest.raises(InputError) as error:
        check_config(dict(model=model), 'mine.py')
    assert str(error.value).startswith(message)


def test_keys_of_a_loop_without_a_type_are_checked():
    check_config(dict(model={}, train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1)), 'mine.py')
    with pytest.raises(InputError, match='mine.py: train_cfg.max_epoch is not an argument; did you mean max_epochs?'):
        check_config(dict(model={}, train_cfg=dict(by_epoch=True, max_epoch=1)), 'mine.py')


def test_keys_of_randomness_are_checked():
    check_config(dict(model={}, randomness=dict(deterministic=True)), 'mine.py')
    with pytest.raises(InputError, match='randomness.sed is not an argument; did you mean seed?'):
        check_config(dict(model={}, randomness=dict(sed=1)), 'mine.py')
    with pytest.raises(InputError, match='randomness=3 is no dict; set randomness.seed'):
        check_config(dict(model={}, randomness=3), 'mine.py')


def test_a_misspelled_section_is_named():
    with pytest.raises(InputError, match='optim_wraper is not a key that a run reads; did you mean optim_wrapper?'):
        check_config(dict(model={}, optim_wraper={}), 'mine.py')
    check_config(dict(model={}, optim_wraper={}, optim_wrapper={}), 'mine.py')


def test_no_module_is_imported_by_the_name_of_a_part(tmp_path, monkeypatch):
    """mmengine would import Resize.py of the current folder for every registry that has no Resize."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ('ReferringSegmentor', 'NoSuchPart'):
        (tmp_path / f'{name}.py').write_text('raise SystemExit("it was imported")')
    with pytest.raises(InputError, match="model.type='NoSuchPart' is not registered"):
        check_config(dict(model=dict(type='NoSuchPart')), 'mine.py')
    with pytest.raises(InputError, match='model lacks backbone'):
        check_config(dict(model=dict(type='ReferringSegmentor')), 'mine.py')
