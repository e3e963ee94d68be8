"""Items of a training: the same whoever makes them, and replaced where an image cannot be read."""
import numpy as np
import pytest
import torch
from dit_sam.datasets import RefCOCODataset
from dit_sam.errors import InputError
from torch.utils.data import DataLoader

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='ReferringFlip', prob=0.5),
            dict(type='PackReferringInputs')]


def build(root: str, **kwargs) -> RefCOCODataset:
    return RefCOCODataset(data_root=root, **{**dict(split='train', pipeline=PIPELINE), **kwargs})


def draws(dataset: RefCOCODataset, order=(0, 1, 2)) -> dict:
    """Sentence and flip of every item, in the order of the index."""
    metas = {index: dataset[index]['data_samples'].metainfo for index in order}
    return {index: (metas[index]['text'], metas[index]['flip']) for index in sorted(order)}


def test_items_are_drawn_by_seed_epoch_and_index(write_refcoco):
    dataset = build(write_refcoco())
    dataset.set_stream(5, 0)
    first = draws(dataset)
    np.random.seed(99)
    assert draws(dataset, (2, 0, 1)) == first
    epochs = []
    for epoch in range(6):
        dataset.set_stream(5, epoch)
        epochs.append(tuple(draws(dataset).values()))
    assert epochs[0] == tuple(first.values()) and len(set(epochs)) > 3


@pytest.mark.parametrize('workers', [1, 2])
def test_living_workers_follow_the_epoch(write_refcoco, workers):
    dataset = build(write_refcoco())
    loader = DataLoader(dataset, batch_size=1, num_workers=workers, persistent_workers=True, collate_fn=lambda x: x[0])
    for epoch in (0, 3):
        dataset.set_stream(5, epoch)
        found = [item['data_samples'].metainfo for item in loader]
        expected = draws(dataset)
        assert [(meta['text'], meta['flip']) for meta in found] == list(expected.values())


def damage(root: str, image: int) -> None:
    path = f'{root}/train2014/COCO_train2014_{image:012d}.jpg'
    with open(path, 'rb') as file:
        start = file.read(30)
    with open(path, 'wb') as file:
        file.write(start)


def test_an_unreadable_image_is_replaced_and_named(write_refcoco, caplog):
    """Image 1 is that of all three training references; with val's on top there are others."""
    def edit(instances, references):
        references[3]['split'] = references[4]['split'] = 'train'

    root = write_refcoco(edit)
    damage(root, 3)
    dataset = build(root)
    dataset.set_stream(0, 0)
    with caplog.at_level('WARNING'):
        item = dataset[4]
    assert item['inputs'].dtype == torch.uint8 and item['data_samples'].metainfo['img_id'] != 3


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
