"""Random numbers that are a function of the seed and of the place in the training."""

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader

from ...random_streams import seed_all
from ..item_streams import VisitedBatches, draw_by_chance, draw_by_visit, seed_sampler
from ..ranks import shared_seed


@HOOKS.register_module()
class RandomStreamHook(Hook):
    """Seed every step by (seed, rank, step) and every item by (seed, pass over the data, place in the pass).

    So a resumed run draws what the uninterrupted one drew, with nothing to save, and neither the number of data-loading
    workers nor a validation in between changes a training. Items are drawn anew at each visit, with any loop, sampler
    and data set, wrapped or not: a place is counted over all ranks, see `VisitedBatches`. All ranks share one seed,
    with `randomness.diff_rank_seed=True` too.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Put the streams into the data loader, before its workers begin."""
        self._seed = shared_seed(runner)
        self._batches: VisitedBatches | None = None
        loop, loader = runner.train_loop, runner.train_dataloader
        if isinstance(loop, IterBasedTrainLoop):
            # It has begun to load when it was built, with the seed from before the checkpoint.
            seed_sampler(runner, self._seed)
            # A second training finds the generator of the first.
            self._kind = getattr(self, '_kind', type(loop.dataloader_iterator))
            loop.dataloader_iterator = _later(self._kind, loader)
        # Workers that live for the whole training; others end with their iterator.
        loader._iterator = None
        try:
            self._batches = draw_by_visit(loader, self._seed)
        except TypeError as error:
            print_log(
                f'The random numbers of the items of train_dataloader are not those of their place, and a '
                f'training does not resume exactly: {error}',
                logger='current',
                level=logging.WARNING,
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Count the passes: by epochs, or in a loop without them from the beginning, which it goes through again."""
        if self._batches is not None and not isinstance(runner.train_loop, IterBasedTrainLoop):
            self._batches.next_pass = runner.epoch

    def after_train(self, runner: Runner) -> None:
        """Leave the data loader and its data set as they were."""
        if self._batches is not None:
            draw_by_chance(runner.train_dataloader)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed what the model draws in this step."""
        seed_all(self._seed, get_rank(), runner.iter)


def _later(kind: type, loader: DataLoader) -> Iterator[Any]:
    """The iterator of an iteration loop, made when the first batch is asked for."""
    yield from kind(loader)
