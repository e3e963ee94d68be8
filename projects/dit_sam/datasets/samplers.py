"""Order in which the data sets of a joint training are visited."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.dataset import ConcatDataset
from mmseg.registry import DATA_SAMPLERS

from ..errors import InputError
from ..mmengine_extras.exact_resume import ResumableSampler


@DATA_SAMPLERS.register_module()
class WeightedConcatSampler(ResumableSampler):
    """Items of several data sets in given shares, whatever their sizes.

    It differs from its parents in which items an epoch has: of each data set its share, drawn without repeats until all
    of it is through, then anew. As there, seed and number of the epoch fix the order, ranks get disjoint parts of it,
    and a resumed training goes on as it would have.

    Args:
        dataset (ConcatDataset): The data sets together.
        weights (Sequence[float]): One positive number a data set; their ratios count.
        epoch_size (int, optional): Items of an epoch over all ranks. Defaults to the size of ``dataset``.
        seed (int, optional): As in mmengine's ``DefaultSampler``.
        round_up (bool): As in mmengine's ``DefaultSampler``.

    Raises:
        InputError: When the weights do not fit the data sets.
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
        return (items[place].item() for place in super().__iter__())


def shares(weights: Sequence[float], total: int) -> list:
    """Whole numbers in the ratios of the weights that sum to the total, by the largest remainder."""
    exact = np.asarray(weights, dtype=float) / sum(weights) * total
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind='stable')[: total - quotas.sum()]] += 1
    return quotas.tolist()
