"""Batches of testing in which the sentences of an image stand together."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby

import numpy as np
from mmengine.dataset import DefaultSampler
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Dataset


@DATA_SAMPLERS.register_module()
class ImageBatchSampler(BatchSampler):
    """Every item once, image by image, so that what depends on the image alone is done once for its sentences.

    It is the ``batch_sampler`` of a data loader for validation or testing. An image is in one batch, unless it has more
    items than fit; images come in the order of their first items. With several ranks each takes an equal share of that
    order, so that of all images at most one less than there are ranks is cut.

    All ranks have as many batches. Items that fill up are at the end, where mmengine cuts them off when it gathers the
    results.

    Args:
        sampler (DefaultSampler): Says which data set and which rank; its order is not used.
        batch_size (int): Most items in a batch.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        images = images_of(sampler.dataset)
        # Stable: items of an image stay in the order of the data set.
        order = np.argsort(first_with_same(images), kind='stable')
        shares = [divide(order, rank, sampler.world_size) for rank in range(sampler.world_size)]
        batches = [pack(share, images, batch_size) for share in shares]
        self.batches = batches[sampler.rank]
        most = max(map(len, batches))
        self.batches += [shares[sampler.rank][-1:]] * (most - len(self.batches))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def images_of(dataset: Dataset) -> Sequence[Hashable]:
    """What tells the images of the items apart."""
    if hasattr(dataset, 'image_numbers'):
        return dataset.image_numbers()
    return np.array([dataset.get_data_info(index)['img_path'] for index in range(len(dataset))])


def first_with_same(values: Sequence[Hashable]) -> np.ndarray:
    """For each value the index at which it is first."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse]


def divide(order: np.ndarray, rank: int, world_size: int) -> list[int]:
    """The run of items of a rank; where it is one short, its last item twice.

    mmengine puts the k-th result of rank r in place k · world_size + r and cuts off what is beyond the number of items.
    Rank r has ⌈(n − r) / world_size⌉ items, so that only what fills up is beyond.
    """
    counts = [-(-(len(order) - each) // world_size) for each in range(world_size)]
    start = sum(counts[:rank])
    items = order[start : start + counts[rank]].tolist()
    # A rank without any item, where there are fewer than ranks, does one that another rank does too.
    return items + (items[-1:] or order[:1].tolist()) * (counts[0] - len(items))


def pack(items: list[int], images: Sequence[Hashable], batch_size: int) -> list[list[int]]:
    """Batches of whole images as far as they fit."""
    batches = [[]]
    for _, group in groupby(items, key=lambda item: images[item]):
        group = list(group)
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            if len(batches[-1]) + len(part) > batch_size:
                batches.append([])
            batches[-1] += part
    return [batch for batch in batches if batch]
