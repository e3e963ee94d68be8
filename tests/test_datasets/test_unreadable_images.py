"""Items of a training are replaced if their image cannot be read."""

import pytest
import torch

from dit_sam.datasets import RefCOCODataset
from dit_sam.errors import InputError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='PackReferringInputs'),
]


def build(root: str, **kwargs) -> RefCOCODataset:
    return RefCOCODataset(data_root=root, **{**dict(split='train', pipeline=PIPELINE), **kwargs})


def damage(root: str, image: int) -> None:
    path = f'{root}/train2014/COCO_train2014_{image:012d}.jpg'
    with open(path, 'rb') as file:
        start = file.read(30)
    with open(path, 'wb') as file:
        file.write(start)


def tear(visited: list[int], index: int) -> None:
    visited.append(index)
    raise OSError('a torn file')


def test_an_unreadable_image_is_replaced_and_named(write_refcoco, caplog):
    """Image 1 is that of all three training references; with val's on top there are others."""

    def edit(instances, references):
        references[3]['split'] = references[4]['split'] = 'train'

    root = write_refcoco(edit)
    damage(root, 3)
    dataset = build(root)
    with caplog.at_level('WARNING'):
        item = dataset[4]
    assert item['inputs'].dtype == torch.uint8 and item['data_samples'].metainfo['img_id'] != 3


def test_every_item_may_take_the_place_of_another(write_refcoco):
    """Also in a set whose size is the usual stride."""
    root = write_refcoco()
    dataset = build(root, indices=[0] * 1009)
    visited = []
    dataset.prepare_data = lambda index: (
        visited.append(index) or dict(a=1) if len(visited) > 1 else tear(visited, index)
    )
    dataset.max_unreadable = 2
    dataset[5]
    assert visited == [5, 9, 13]


def test_too_many_unreadable_images_end_the_training(write_refcoco):
    root = write_refcoco()
    damage(root, 1)
    message = r'2 of 2 items could not be read, the last one .*000000000001\.jpg.*data_prefix'
    with pytest.raises(InputError, match=message):
        build(root)[0]


def test_in_testing_the_error_names_the_image(write_refcoco):
    root = write_refcoco()
    damage(root, 2)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
    with pytest.raises(Exception, match='COCO_train2014_000000000002'):
        build(root, split='val', test_mode=True, pipeline=pipeline)[0]
