"""Random numbers of the items of a training, by when an item is visited."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from mmengine.dist import get_dist_info
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from ..random_streams import seed_all

# Apart from the streams of steps, which have three numbers too; and not 0, which SeedSequence pads with.
_ITEMS = 1


class Visit(NamedTuple):
    """An item of a batch that is asked for.

    Attributes:
        index: Which item of the data set.
        number: Which pass over the data, from 0 on.
        place: Place in the pass, counted over all ranks.
    """

    index: Any
    number: int
    place: int


class VisitedBatches:
    """A batch sampler that says of each index when it is visited, as `Visit`; for all else it is the one within.

    The k-th item of rank r has the place k · ranks + r. Samplers deal their indices out to the ranks in turn, so that
    two ranks with half the batch have the places of one rank.

    Args:
        inner: The batch sampler, with or without a sampler of its own.

    Attributes:
        next_pass: Number of the next pass; each pass counts it up.
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
        # What a resumed pass leaves out, see `ResumableSampler`.
        done = getattr(getattr(self.inner, 'sampler', None), 'start', 0)
        for batch in self.inner:
            yield [Visit(index, number, place * ranks + rank) for place, index in enumerate(batch, done)]
            done += len(batch)


def sampler_of(loader: DataLoader) -> Sampler:
    """The sampler of a data loader, also of one with a `batch_sampler`, where torch puts another in its place."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def seed_sampler(runner: Runner, seed: int) -> None:
    """Have the sampler of a training begin with a seed: it was built before a checkpoint told it.

    A seed that the config names for the sampler itself stays.
    """
    settings, sampler = runner.cfg.get('train_dataloader'), sampler_of(runner.train_dataloader)
    own = (settings.get('sampler') or {}).get('seed') if isinstance(settings, Mapping) else None
    if own is None and hasattr(sampler, 'seed'):
        sampler.seed = seed
    if hasattr(sampler, '_indices_of_rank'):
        # mmengine's InfiniteSampler goes on where its last iterator has left it.
        sampler.indices = sampler._indices_of_rank()


def draw_by_visit(loader: DataLoader, seed: int) -> VisitedBatches:
    """Have a data loader seed Python, numpy and torch by (seed, pass, place) before it makes an item.

    So neither the number of workers nor of ranks changes what is drawn, nor what was made before. The workers must not
    have been started yet. A data set that makes batches itself, by `__getitems__`, is asked for one item at a time.
    Other loaders of the same data set get their items as before.

    Args:
        loader: A loader of batches, with any sampler and any data set.
        seed: The same on all ranks.

    Returns:
        VisitedBatches: The batch sampler that the loader has from now on.

    Raises:
        TypeError: The loader makes no batches (`batch_size=None`), or its data set takes no attributes or has no
            indices (`IterableDataset`).
    """
    if isinstance(loader.dataset, IterableDataset):
        raise TypeError(f'items of {type(loader.dataset).__name__}, an IterableDataset, are not asked for by index')
    if loader.batch_sampler is None:
        raise TypeError('batch_size=None')
    draw_by_chance(loader)
    try:
        # torch's loaders ask the outermost data set for whole batches by this name, in every version from 2.1 on.
        loader.dataset.__getitems__ = partial(_make, _own_way(loader.dataset), seed)
    except AttributeError as error:
        raise TypeError(f'a data set of type {type(loader.dataset).__name__} takes no attributes') from error
    batches = VisitedBatches(loader.batch_sampler)
    # DataLoader itself refuses, as its iterators would not notice; there are none yet.
    object.__setattr__(loader, 'batch_sampler', batches)
    return batches


def draw_by_chance(loader: DataLoader) -> None:
    """Undo `draw_by_visit`, if it was done."""
    if not isinstance(loader.batch_sampler, VisitedBatches):
        return
    object.__setattr__(loader, 'batch_sampler', loader.batch_sampler.inner)
    del loader.dataset.__getitems__


def _own_way(dataset: Dataset) -> Callable[[list], list]:
    """How a data set makes the items of a list of indices by itself."""
    own = getattr(dataset, '__getitems__', None)
    return own if callable(own) else partial(_one_by_one, dataset)


def _one_by_one(dataset: Dataset, indices: list) -> list:
    return [dataset[index] for index in indices]


def _make(own: Callable[[list], list], seed: int, indices: list) -> list:
    """The items of a batch, which other loaders ask for by mere indices."""
    if not all(isinstance(index, Visit) for index in indices):
        return own(indices)
    items = []
    for index, number, place in indices:
        seed_all(seed, number, place, _ITEMS)
        items += own([index])
    return items
