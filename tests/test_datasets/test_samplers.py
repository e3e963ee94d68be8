"""Samplers: batches by image, their image stage, and data sets in given shares."""

from collections import Counter
from itertools import chain, zip_longest

import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import BaseTransform
from mmengine.dataset import ConcatDataset, DefaultSampler
from mmseg.registry import DATASETS, TRANSFORMS

from dit_sam.datasets import ImageBatchSampler, RefCOCODataset, WeightedConcatSampler
from dit_sam.datasets.samplers import divide, images_of, shares
from dit_sam.errors import InputError

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), keep_ratio=True),
    dict(type='LoadReferringMask'),
    dict(type='PackReferringInputs'),
]


class Items:
    """A data set of which only the images of the items are known."""

    def __init__(self, images: list) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def image_numbers(self) -> np.ndarray:
        return np.array(self.images)


def batches_of(images: list, batch_size: int, rank: int = 0, world_size: int = 1) -> list:
    sampler = DefaultSampler(Items(images), shuffle=False, seed=0)
    sampler.rank, sampler.world_size = rank, world_size
    batches = ImageBatchSampler(sampler, batch_size)
    assert len(batches) == len(list(batches))
    return list(batches)


def test_items_of_an_image_are_grouped_in_the_order_of_their_first():
    assert batches_of([7, 3, 7, 5, 3, 7], 4) == [[0, 2, 5], [1, 4, 3]]
    assert batches_of([7, 3, 7, 5, 3, 7], 6) == [[0, 2, 5, 1, 4, 3]]


def test_an_image_with_too_many_items_is_split():
    assert batches_of([1, 1, 1, 1, 1, 2], 2) == [[0, 1], [2, 3], [4, 5]]
    assert batches_of([1, 2, 1], 1) == [[0], [2], [1]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 8), st.integers(1, 5))
def test_every_item_is_scored_once_for_any_number_of_ranks(images, batch_size, world_size):
    """What mmengine gathers: results taken from the ranks in turn, cut to the number of items."""
    ranks = [batches_of(images, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    results = [list(chain(*batches)) for batches in ranks]
    gathered = [item for item in chain(*zip_longest(*results)) if item is not None][: len(images)]
    assert sorted(gathered) == list(range(len(images)))
    # An older mmengine stops at the rank with the fewest.
    assert sorted(list(chain(*zip(*results)))[: len(images)]) == list(range(len(images)))
    assert all(1 <= len(batch) <= batch_size for batch in chain(*ranks))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 4))
def test_few_images_are_read_twice(images, world_size):
    """If batches have room for all items of an image, only at the end of a rank's share."""
    ranks = [batches_of(images, 30, rank, world_size) for rank in range(world_size)]
    readings = [{images[item] for item in batch} for batch in chain(*ranks)]
    extra = sum(map(len, readings)) - len(set(images))
    filled_up = len(set(range(world_size * len(ranks[0])))) - len({tuple(batch) for batch in chain(*ranks)})
    assert extra <= world_size - 1 + filled_up + world_size * (len(images) < world_size)


def test_ranks_without_an_item_repeat_one_of_another_rank():
    assert [divide(np.arange(2), rank, 4) for rank in range(4)] == [[0], [1], [0], [0]]


def test_paths_group_items_of_other_data_sets():
    class Paths:
        def __len__(self) -> int:
            return 3

        def get_data_info(self, index: int) -> dict:
            return dict(img_path='aba'[index])

    assert list(images_of(Paths())) == ['a', 'b', 'a']
    # Joined sets: each by its own means.
    joined = ConcatDataset.__new__(ConcatDataset)
    joined.datasets = [Paths(), Paths()]
    assert list(images_of(joined)) == [0, 1, 0, 2, 3, 2]


@pytest.fixture
def build(write_refcoco):
    root = write_refcoco()

    def build(pipeline=PIPELINE, **kwargs):
        return DATASETS.build(
            dict(type='RefCOCODataset', data_root=root, split='val', test_mode=True, pipeline=pipeline, **kwargs)
        )

    return build


def test_numbers_of_images_are_those_of_the_references(build):
    """Val: three sentences on image 2, one on image 3. Train has three references on image 1."""
    numbers = build().image_numbers()
    assert numbers[0] == numbers[1] == numbers[2] != numbers[3]
    assert len(build(indices=[3, 0]).image_numbers()) == 2
    training = build().__class__(data_root=build().data_root, split='train', pipeline=PIPELINE)
    assert len(set(training.image_numbers().tolist())) == 1 and len(training) == 3


def test_an_image_is_read_once_and_the_items_do_not_change(build, monkeypatch):
    read, decode = [], mmcv.imfrombytes
    monkeypatch.setattr(mmcv, 'imfrombytes', lambda *args, **kwargs: read.append(1) or decode(*args, **kwargs))
    dataset = build()
    together = [dataset[index] for index in range(4)]
    assert len(read) == 2  # images
    alone = [build()[index] for index in range(4)]
    assert len(read) == 2 + 4
    for item, expected in zip(together, alone):
        assert torch.equal(item['inputs'], expected['inputs'])
        assert torch.equal(item['data_samples'].gt_sem_seg.data, expected['data_samples'].gt_sem_seg.data)
        assert item['data_samples'].metainfo == expected['data_samples'].metainfo
    assert together[0]['inputs'] is together[2]['inputs'] is not together[3]['inputs']
    assert [item['data_samples'].sample_idx for item in together] == [0, 1, 2, 3]


def test_an_unknown_transform_gets_its_own_copy_of_the_image(build):
    """It may draw, and write into the array."""

    @TRANSFORMS.register_module(force=True)
    class BlackenLeftColumn(BaseTransform):
        def transform(self, results: dict) -> dict:
            assert results['img'][:, 0].any()
            results['img'][:, 0] = 0
            return results

    dataset = build([*PIPELINE[:2], dict(type='BlackenLeftColumn'), *PIPELINE[2:]])
    for index in range(3):
        assert not dataset[index]['inputs'][:, :, 0].any()


def test_masks_drawn_before_the_resize_are_resized(build):
    """Then the pipeline's head is the loading alone."""
    item = build([PIPELINE[0], PIPELINE[2], PIPELINE[1], PIPELINE[3]])[0]
    assert item['data_samples'].gt_sem_seg.data.shape[1:] == item['inputs'].shape[1:]


class Numbers(ConcatDataset):
    """Data sets of these sizes, as far as a sampler sees them."""

    def __init__(self, *sizes: int) -> None:
        self.datasets = [range(size) for size in sizes]


def sampler_of(rank: int, world_size: int, *args, monkeypatch, **kwargs) -> WeightedConcatSampler:
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world_size))
    return WeightedConcatSampler(*args, seed=5, **kwargs)


def test_an_epoch_has_the_shares_and_visits_evenly(monkeypatch):
    """Weights 1 : 3 of 40 items: 10 of the 20 in the first set, 30 of the 10 in the second, each of them 3 times."""
    sampler = sampler_of(0, 1, Numbers(20, 10), [1, 3], epoch_size=40, monkeypatch=monkeypatch)
    visits = Counter(sampler)
    assert len(sampler) == 40 == visits.total()
    assert Counter(visits[item] for item in range(20)) == {0: 10, 1: 10}
    assert [visits[item] for item in range(20, 30)] == [3] * 10


def test_the_size_of_an_epoch_is_that_of_the_data(monkeypatch):
    sampler = sampler_of(0, 1, Numbers(6, 3), [1, 2], monkeypatch=monkeypatch)
    items = list(sampler)
    assert (len(items), sum(item < 6 for item in items)) == (9, 3)
    assert items != sorted(items)


def test_ranks_share_out_an_epoch(monkeypatch):
    whole = list(sampler_of(0, 1, Numbers(7, 5), [2, 1], monkeypatch=monkeypatch))
    parts = [list(sampler_of(rank, 3, Numbers(7, 5), [2, 1], monkeypatch=monkeypatch)) for rank in range(3)]
    assert [item for items in zip(*parts) for item in items] == whole


def test_epochs_differ_and_are_reproducible_by_number(monkeypatch):
    sampler, other = (sampler_of(0, 1, Numbers(30, 30), [1, 1], monkeypatch=monkeypatch) for _ in range(2))
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    other.set_epoch(2)
    assert list(other) == epochs[2]
    other.start = 50
    assert list(other) == epochs[2][50:]


def test_each_epoch_draws_other_items():
    """A tenth of 100 items an epoch: the same ones each time would leave the rest unseen."""
    sampler = WeightedConcatSampler(Numbers(100, 100), [1, 1], epoch_size=20, seed=0)
    seen = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        seen.append(frozenset(sampler))
        assert len(seen[-1]) == 20
    assert len(set(seen)) == 10 and len(frozenset.union(*seen)) > 100


@pytest.mark.parametrize('weights', [[1], [1, 0], [1, -1], [1, float('nan')], [1, 1, 1]])
def test_bad_weights_are_named(weights):
    with pytest.raises(InputError, match=r'weights=.*a positive number for each of the 2 data sets'):
        WeightedConcatSampler(Numbers(2, 3), weights, seed=0)


@pytest.mark.parametrize('size', [1e5, 0, True])
def test_a_bad_size_of_an_epoch_is_named(size):
    with pytest.raises(InputError, match=f'epoch_size={size!r} must be a whole number from 1 on'):
        WeightedConcatSampler(Numbers(2, 3), [1, 1], epoch_size=size, seed=0)


def test_a_single_data_set_is_refused(write_refcoco):
    with pytest.raises(InputError, match='needs a ConcatDataset, got RefCOCODataset'):
        WeightedConcatSampler(RefCOCODataset(write_refcoco()), [1], seed=0)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 1000))
def test_shares_sum_to_the_total_and_are_off_by_less_than_one(weights, total):
    numbers = shares(weights, total)
    assert sum(numbers) == total
    assert all(abs(number - weight / sum(weights) * total) < 1 for number, weight in zip(numbers, weights))
