"""The order of a pipeline's steps, in which image, mask, points and sentence change together.

Those of the configs pass in test_dataset_configs.py, which builds the data sets.
"""

from types import SimpleNamespace

import mmcv.transforms as mmcv
import mmseg.datasets.transforms as mmseg
import pytest

import dit_sam.datasets.transforms as ours
from dit_sam.datasets import ReferringJSONDataset
from dit_sam.datasets.pipeline_check import check_steps, doubt_about_masks
from dit_sam.errors import InputError

LOAD, MASK, PACK = mmcv.LoadImageFromFile(), ours.LoadReferringMask(), ours.PackReferringInputs()
RESIZE, FLIP = mmcv.Resize(scale=(64, 64), keep_ratio=True), ours.ReferringFlip(prob=0.5)
CROP, PAD = mmseg.RandomCrop(crop_size=(32, 32)), mmcv.Pad(size=(64, 64))
PROMPTS = ours.SamplePrompts()


@pytest.mark.parametrize(
    'steps, test_mode, message',
    [
        (
            [LOAD, FLIP, MASK, RESIZE],
            False,
            'ReferringFlip comes before LoadReferringMask, so the mask would not follow',
        ),
        ([LOAD, RESIZE, CROP, MASK], False, 'RandomCrop comes before LoadReferringMask'),
        ([LOAD, RESIZE, MASK, CROP], False, 'Resize comes before LoadReferringMask'),
        (
            [LOAD, MASK, mmseg.RandomFlip(prob=0.5)],
            False,
            'RandomFlip mirrors the image and not its sentence .*: take Ref',
        ),
        ([LOAD, MASK, mmcv.RandomApply([mmcv.RandomFlip(prob=1.0)])], False, 'RandomFlip mirrors the image'),
        ([LOAD, MASK, mmseg.RandomRotFlip()], False, 'RandomRotFlip mirrors the image'),
        ([LOAD, RESIZE, PAD, MASK], True, 'Pad in a test pipeline: the mask would be stretched'),
        ([LOAD, mmcv.CenterCrop(32), MASK], True, 'CenterCrop in a test pipeline'),
        (
            [LOAD, MASK, PROMPTS, RESIZE],
            False,
            'Resize comes after SamplePrompts, so points and boxes would not follow',
        ),
    ],
)
def test_orders_in_which_something_stays_behind(steps, test_mode, message):
    with pytest.raises(InputError, match=f'pipeline of mine: {message}'):
        check_steps([*steps, PACK], test_mode, 'pipeline of mine')


class DualTransform:
    """Stands for Albumentations' class of this name, which is not installed here."""

    __module__ = 'albumentations.core'


class HorizontalFlip(DualTransform):
    __module__, p = 'albumentations.augmentations', 0.5


def albu(*transforms: object) -> mmseg.Albu:
    step = mmseg.Albu.__new__(mmseg.Albu)
    step.aug = SimpleNamespace(transforms=transforms)
    return step


def test_steps_of_albumentations():
    check_steps([LOAD, MASK, albu(object(), DualTransform()), PACK], False, 'mine')
    for steps, message in (
        ([LOAD, MASK, albu(object(), HorizontalFlip())], 'HorizontalFlip mirrors the image and not its sentence'),
        ([LOAD, albu(DualTransform()), MASK], 'DualTransform comes before LoadReferringMask'),
    ):
        with pytest.raises(InputError, match=message):
            check_steps([*steps, PACK], False, 'mine')


@pytest.mark.parametrize(
    'steps, doubtful',
    [
        ([LOAD, MASK, RESIZE], True),
        ([LOAD, MASK, mmcv.RandomChoiceResize(scales=[(32, 32)])], True),
        ([LOAD, MASK, mmcv.RandomResize(scale=(32, 32), ratio_range=(1.0, 2.0), resize_type='Resize')], True),
        ([LOAD, RESIZE, MASK], False),
        ([LOAD, MASK, mmcv.Resize(scale=(32, 32), backend='pillow')], False),
        ([LOAD, MASK, ours.ReferringResize(scale=(32, 32))], False),
        ([LOAD, MASK, mmcv.RandomChoiceResize(scales=[(32, 32)], resize_type='mmseg.ReferringResize')], False),
    ],
)
def test_resizes_that_move_masks_are_named(steps, doubtful):
    doubt = doubt_about_masks([*steps, PACK])
    assert ('moves masks by half an input pixel against their pictures: take ReferringResize' in doubt) == doubtful


class OwnFlip(mmcv.RandomFlip):
    """A flip that may change the sentence too."""


@pytest.mark.parametrize(
    'steps, test_mode',
    [
        ([LOAD, MASK, RESIZE, FLIP, CROP, PAD, PROMPTS], False),
        ([LOAD, RESIZE, MASK], False),
        ([LOAD, MASK, OwnFlip(prob=0.5)], False),
        ([LOAD, RESIZE, MASK, PROMPTS], True),
        ([LOAD, RESIZE, mmseg.RandomFlip(prob=0.0), MASK], True),
        ([LOAD, MASK, mmcv.RandomApply([mmseg.PhotoMetricDistortion()]), RESIZE], False),
    ],
)
def test_orders_in_which_all_follow(steps, test_mode):
    check_steps([*steps, PACK], test_mode, 'pipeline of mine')


def test_a_data_set_checks_its_pipeline(tmp_path):
    (tmp_path / 'a.jsonl').write_text('')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5)]
    with pytest.raises(InputError, match='pipeline of ReferringJSONDataset: RandomFlip mirrors'):
        ReferringJSONDataset(ann_file=str(tmp_path / 'a.jsonl'), pipeline=pipeline, lazy_init=True)
