"""Samplers: data sets in given shares for joint training, and batches by image for testing."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from mmengine.dataset import ConcatDataset, DefaultSampler
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler

from ..errors import InputError
from ..mmengine_extras.exact_resume import ResumableSampler


@DATA_SAMPLERS.register_module()
class WeightedConcatSampler(ResumableSampler):
    """Sampler of several data sets in given shares, independent of their sizes.

    An epoch has the share of each data set, drawn without repetition until all its items have occurred, and so on.
    As in the parent, seed and epoch fix the order, ranks get disjoint parts of it, and a resumed training continues it.

    Args:
        dataset: The data sets together.
        weights: A positive number per data set; only their ratios matter.
        epoch_size: Number of items of an epoch over all ranks, by default the size of `dataset`.
        seed: As in mmengine's `DefaultSampler`: seed of the order, the same on all ranks.
        round_up: As in mmengine's `DefaultSampler`: repeat items so that all ranks get the same number.

    Raises:
        InputError: The weights do not fit the data sets.
    """

    def __init__(
        self,
        dataset: ConcatDataset,
        weights: Sequence[float],
        epoch_size: int | None = None,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        if not hasattr(dataset, 'datasets'):
            raise InputError(f'WeightedConcatSampler needs a ConcatDataset, got {type(dataset).__name__}')
        self.sizes = [len(part) for part in dataset.datasets]
        if len(weights) != len(self.sizes) or not all(np.isfinite(weight) and weight > 0 for weight in weights):
            raise InputError(
                f'weights={list(weights)}: a positive number for each of the {len(self.sizes)} data sets is needed'
            )
        if epoch_size is not None and (type(epoch_size) is not int or epoch_size < 1):
            raise InputError(f'epoch_size={epoch_size!r} must be a whole number from 1 on')
        super().__init__(range(epoch_size or sum(self.sizes)), shuffle=True, seed=seed, round_up=round_up)
        self.quotas = shares(weights, len(self.dataset))

    def __iter__(self) -> Iterator[int]:
        """The items of this rank."""
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        drawn, start = [], 0
        for size, quota in zip(self.sizes, self.quotas):
            rounds = [torch.randperm(size, generator=generator) for _ in range(-(-quota // size))]
            drawn.append(start + torch.cat([*rounds, torch.empty(0, dtype=torch.long)])[:quota])
            start += size
        items = torch.cat(drawn)
        return (int(items[place]) for place in super().__iter__())


def shares(weights: Sequence[float], total: int) -> list:
    """Whole numbers with the ratios of the weights and the sum `total`, by the largest remainder."""
    exact = np.asarray(weights, dtype=float) / sum(weights) * total
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind='stable')[: total - quotas.sum()]] += 1
    return quotas.tolist()


@DATA_SAMPLERS.register_module()
class ImageBatchSampler(BatchSampler):
    """Batch sampler for testing: every item once, the items of an image together, so that it is encoded once.

    It is the `batch_sampler` of a data loader. An image is in one batch, unless it has more items than fit. Images come
    in the order of their first items. With several ranks, each takes an equal share of that order, so that at most one
    image per boundary between ranks is split.

    All ranks have the same number of batches. Repeated items are at the end, where mmengine cuts them off when it
    gathers the results.

    Args:
        sampler: Gives the data set and the rank; its order is not used.
        batch_size: Maximal number of items in a batch.
    """

    sampler: DefaultSampler

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


def images_of(dataset: Any) -> np.ndarray:
    """A number or path for each item, equal for items on the same image."""
    if hasattr(dataset, 'image_numbers'):
        return dataset.image_numbers()
    if isinstance(dataset, ConcatDataset):
        found: list[np.ndarray] = []
        for part in dataset.datasets:
            _, numbers = np.unique(images_of(part), return_inverse=True)
            found.append(numbers + (found[-1].max() + 1 if found else 0))
        return np.concatenate(found)
    return np.array([dataset.get_data_info(index)['img_path'] for index in range(len(dataset))])


def first_with_same(values: np.ndarray) -> np.ndarray:
    """For each value the index of its first occurrence."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse]


def divide(order: np.ndarray, rank: int, world_size: int) -> list[int]:
    """The consecutive items of a rank; if it has one less than rank 0, its last item is repeated.

    mmengine puts the k-th result of rank r at position k · world_size + r and keeps the first n. Rank r has
    ⌈(n − r) / world_size⌉ items of its own, so that only repeated items are cut off.
    """
    counts = [-(-(len(order) - each) // world_size) for each in range(world_size)]
    start = sum(counts[:rank])
    items = order[start : start + counts[rank]].tolist()
    # With fewer items than ranks, a rank without any repeats one of another rank.
    return items + (items[-1:] or order[:1].tolist()) * (counts[0] - len(items))


def pack(items: list[int], images: np.ndarray, batch_size: int) -> list[list[int]]:
    """Batches of whole images, as far as these fit."""
    batches: list[list[int]] = [[]]
    for _, same_image in groupby(items, key=lambda item: images[item]):
        group = list(same_image)
        for start in range(0, len(group), batch_size):
            part = group[start : start + batch_size]
            if len(batches[-1]) + len(part) > batch_size:
                batches.append([])
            batches[-1] += part
    return [batch for batch in batches if batch]
