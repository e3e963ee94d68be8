"""Random numbers of the items of a training: each item is seeded by when it is visited."""

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.runner import Runner
from torch.utils.data import DataLoader, IterableDataset, Sampler

# Keeps the seeds of items apart from those of steps, which have three numbers too. Not 0, which SeedSequence pads with.
_ITEMS = 1


class Visit(NamedTuple):
    """A requested item of a batch: its index, the number of the pass from 0 on, and the position over all ranks."""

    index: Any
    number: int
    position: int


class VisitBatchSampler:
    """A batch sampler that gives a `Visit` for each index of an inner batch sampler.

    The k-th item of rank r has the position k · ranks + r. Samplers deal out their indices to the ranks in turn, so
    that two ranks with half the batch size have the positions of one rank.

    Attributes:
        inner: The inner batch sampler; all other attributes are looked up in it.
        next_pass: Number of the next pass; each pass increments it.
    """

    def __init__(self, inner: Any) -> None:
        self.inner, self.next_pass = inner, 0

    def __getattr__(self, name: str) -> Any:
        if name == 'inner':
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[list[Visit]]:
        number, self.next_pass = self.next_pass, self.next_pass + 1
        rank, ranks = get_dist_info()
        # The items that a resumed pass leaves out.
        done = getattr(getattr(self.inner, 'sampler', None), 'start', 0)
        for batch in self.inner:
            yield [Visit(index, number, k * ranks + rank) for k, index in enumerate(batch, done)]
            done += len(batch)


def seed_all(*numbers: int) -> None:
    """Seed Python, numpy and torch (all devices) by several numbers, mixed so that neighbors are unrelated."""
    words = np.random.SeedSequence([number % 2**32 for number in numbers]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 31 | int(words[3]) >> 1)


def seed_items(loader: DataLoader, seed: int) -> VisitBatchSampler:
    """Have a data loader seed Python, numpy and torch by (seed, pass, position) before it makes an item.

    The workers must not have started yet. A data set with `__getitems__`, which makes whole batches, is asked for one
    item at a time. Other loaders of the same data set get their items as before.

    Args:
        loader: A loader of batches, with any sampler and any data set.
        seed: The same on all ranks.

    Returns:
        The batch sampler that the loader has from now on.

    Raises:
        TypeError: The loader makes no batches (`batch_size=None`), or its data set takes no attributes or has no
            indices (`IterableDataset`).
    """
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset):
        raise TypeError(f'a data set of type {type(dataset).__name__} (IterableDataset) has no indices')
    if loader.batch_sampler is None:
        raise TypeError('batch_size=None')
    stop_seeding_items(loader)
    own = getattr(dataset, '__getitems__', None)
    make = own if callable(own) else partial(_one_by_one, dataset)
    try:
        # torch's loaders ask the outermost data set for whole batches by this name, in every version since 2.1.
        dataset.__getitems__ = partial(_make_seeded, make, seed)
    except AttributeError as error:
        raise TypeError(f'a data set of type {type(dataset).__name__} takes no attributes') from error
    batches = VisitBatchSampler(loader.batch_sampler)
    _set_batch_sampler(loader, batches)
    return batches


def stop_seeding_items(loader: DataLoader) -> None:
    """Undo `seed_items`, if it was done."""
    if isinstance(loader.batch_sampler, VisitBatchSampler):
        _set_batch_sampler(loader, loader.batch_sampler.inner)
        del cast(Any, loader.dataset).__getitems__


def sampler_of(loader: DataLoader) -> Sampler:
    """The sampler of a data loader. With a `batch_sampler`, torch puts another one into `loader.sampler`."""
    return getattr(loader.batch_sampler, 'sampler', cast(Sampler, loader.sampler))


def seed_sampler(runner: Runner, seed: int) -> None:
    """Set the seed of the training's sampler, which was built before the checkpoint with the seed was read.

    A seed that the config gives to the sampler itself stays.
    """
    settings = runner.cfg.get('train_dataloader')
    sampler: Any = sampler_of(runner.train_dataloader)
    own = (settings.get('sampler') or {}).get('seed') if isinstance(settings, Mapping) else None
    if own is None and hasattr(sampler, 'seed'):
        sampler.seed = seed
    if hasattr(sampler, '_indices_of_rank'):
        # mmengine's InfiniteSampler would continue where its last iterator stopped.
        sampler.indices = sampler._indices_of_rank()


def _set_batch_sampler(loader: DataLoader, batches: Any) -> None:
    # DataLoader refuses the assignment, because its iterators would not notice. There are none yet.
    object.__setattr__(loader, 'batch_sampler', batches)


def _one_by_one(dataset: Any, indices: list) -> list:
    return [dataset[index] for index in indices]


def _make_seeded(make: Callable[[list], list], seed: int, indices: list) -> list:
    """The items of a batch; other loaders of the data set use plain indices."""
    if not all(isinstance(index, Visit) for index in indices):
        return make(indices)
    items = []
    for index, number, position in indices:
        seed_all(seed, number, position, _ITEMS)
        items += make([index])
    return items
