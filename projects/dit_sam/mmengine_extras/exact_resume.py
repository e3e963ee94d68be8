"""Exact resume: a resumed training gets the items and the random numbers of an uninterrupted one."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from mmengine.dataset import DefaultSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmseg.registry import DATA_SAMPLERS, HOOKS, LOOPS
from torch import nn
from torch.utils.data import DataLoader

from ..errors import log_warning
from .item_seeds import VisitBatchSampler, seed_all, seed_items, seed_sampler, stop_seeding_items
from .ranks import shared_seed
from .schedules import ScheduleStartHook


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """`DefaultSampler` whose next pass may begin inside the epoch, so that a resumed run does not see data twice.

    Attributes:
        start: How many items of this rank the next pass leaves out; each pass resets it to 0.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        return islice(super().__iter__(), start, None)


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that resumes exactly.

    mmengine restarts the epoch of a checkpoint, in another order if the config names no seed, and skips a validation
    that was interrupted. Here a resumed epoch continues after the last step of the checkpoint, in its original order,
    and a validation that was due comes first. Gradients are accumulated within an epoch, as checkpoints do not hold
    them, so the last step of an epoch may use fewer batches. Arguments as in the parent: `max_epochs`, `val_begin`,
    `val_interval`.
    """

    _iter: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._schedules = ScheduleStartHook()
        self.runner.register_hook(self._schedules)

    def run(self) -> nn.Module:
        """Train, after the validation that was due before the checkpoint's next epoch."""
        seed_sampler(self.runner, shared_seed(self.runner))
        self.runner.call_hook('before_train')
        resumed_between_epochs = self._iter > 0 and self._steps_done() == 0
        if resumed_between_epochs and self._scored_epoch() != self._epoch:
            self._decide_current_val_interval()
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._steps_done()
        if hasattr(self.runner.optim_wrapper, 'initialize_count_status'):
            self.runner.optim_wrapper.initialize_count_status(self.runner.model, done, len(self.dataloader))
        for idx, data_batch in enumerate(self._batches_from(done), done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_from(self, done: int) -> Iterable:
        """The batches of this epoch without the first `done`."""
        if not done:
            return self.dataloader
        if done == len(self.dataloader):
            return ()
        print_log(f'Epoch {self._epoch + 1} continues after step {done} of {len(self.dataloader)}', logger='current')
        if not hasattr(self.dataloader.sampler, 'start'):
            # With any other sampler, the batches that were seen are loaded again and dropped.
            return islice(self.dataloader, done, None)
        self.dataloader.sampler.start = done * self.dataloader.batch_size
        return self.dataloader

    def _steps_done(self) -> int:
        """Finished steps of the current epoch; 0 if the length of an epoch has changed since the checkpoint."""
        length, hub = len(self.dataloader), self.runner.message_hub
        before = hub.get_info('steps_per_epoch', length)
        hub.update_info('steps_per_epoch', length)
        done = self._iter - self._epoch * before
        # All, if it was stopped at the end, before the checkpoint of the epoch.
        if before == length and 0 <= done <= length:
            return done
        if before != length:
            print_log(
                f'The checkpoint was written with {before} steps an epoch, and there are {length} now: epoch '
                f'{self._epoch + 1} starts over',
                logger='current',
            )
            self._iter = self._epoch * length
            self._schedules.replay(self._epoch, length)
        return 0

    def _scored_epoch(self) -> int | None:
        """The epoch of the last finished validation."""
        return self.runner.message_hub.runtime_info.get('scores', {}).get('epoch')

    def _validate_if_due(self) -> None:
        """Validate after the same epochs as mmengine."""
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.runner.val_loop.run()


@HOOKS.register_module()
class RandomStreamHook(Hook):
    """Seeds every step by (seed, rank, step) and every item by (seed, pass over the data, position in the pass).

    A resumed run therefore draws the same numbers as an uninterrupted one, and nothing has to be saved. Neither the
    number of data-loading workers nor a validation in between changes a training. Every visit of an item draws new
    numbers, with any loop, sampler and data set; positions are counted over all ranks, see `VisitBatchSampler`. All
    ranks share one seed, also with `randomness.diff_rank_seed=True`.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Have the data loader seed its items, before its workers start."""
        self._seed = shared_seed(runner)
        self._batches: VisitBatchSampler | None = None
        loop, loader = runner.train_loop, runner.train_dataloader
        if isinstance(loop, IterBasedTrainLoop):
            # It started to load when it was built, before the checkpoint's seed was known.
            seed_sampler(runner, self._seed)
            # In a second training the iterator is that of the first.
            self._kind = getattr(self, '_kind', type(loop.dataloader_iterator))
            loop.dataloader_iterator = _StartLater(self._kind, loader)
        # Persistent workers; others end with their iterator.
        loader._iterator = None
        try:
            self._batches = seed_items(loader, self._seed)
        except TypeError as error:
            log_warning(
                'The items of train_dataloader are not seeded one by one, and the training does not resume exactly: '
                f'{error}'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Count passes by epochs. A loop without epochs runs through all passes again, from the first."""
        if self._batches is not None and not isinstance(runner.train_loop, IterBasedTrainLoop):
            self._batches.next_pass = runner.epoch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed what the model draws in this step."""
        seed_all(self._seed, get_rank(), runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Leave the data loader and its data set as they were."""
        if self._batches is not None:
            stop_seeding_items(runner.train_dataloader)


class _StartLater:
    """The iterator of an iteration loop, created when the first batch is requested."""

    def __init__(self, kind: type, loader: DataLoader) -> None:
        self._kind, self._loader = kind, loader
        self._batches: Any = None

    def __iter__(self) -> '_StartLater':
        return self

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = self._kind(self._loader)
        return next(self._batches)

    def skip_iter(self, steps: int) -> None:
        """Called by onedl-mmengine when it resumes; mmengine draws the batches itself."""
        for _ in range(steps):
            next(self)
