"""Epochs that go on where a checkpoint was written, also inside one."""

from itertools import islice

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import LOOPS
from torch import nn

from .item_streams import seed_sampler
from .ranks import shared_seed


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that resumes exactly.

    mmengine begins the epoch of a checkpoint anew, with the order of another seed where the config names none, and
    leaves out a validation that was cut off. Here a resumed epoch begins behind the last step that the checkpoint has
    seen, in the order in which it began, and a validation that was due is done first. Gradients are accumulated within
    an epoch, as a checkpoint has none: the last step of an epoch may be made of fewer batches. Arguments as in the
    parent.
    """

    def run(self) -> nn.Module:
        """As in the parent; a validation that was due before the checkpoint's next epoch is done first."""
        seed_sampler(self.runner, shared_seed(self.runner))
        self.runner.call_hook('before_train')
        resumed_between_epochs = self._iter > 0 and self._steps_done() == 0
        if resumed_between_epochs and self._epoch < self._max_epochs:
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """One epoch, or the rest of one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._steps_done()
        if hasattr(self.runner.optim_wrapper, 'initialize_count_status'):
            self.runner.optim_wrapper.initialize_count_status(self.runner.model, done, len(self.dataloader))
        for idx, data_batch in enumerate(self._batches_from(done), done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _batches_from(self, done: int):
        """The batches of this epoch without the first `done`."""
        if not done:
            return self.dataloader
        print_log(f'Epoch {self._epoch + 1} goes on behind step {done} of {len(self.dataloader)}', logger='current')
        if not hasattr(self.dataloader.sampler, 'start'):
            # Any other sampler: what was seen is loaded again and passed over.
            return islice(self.dataloader, done, None)
        self.dataloader.sampler.start = done * self.dataloader.batch_size
        return self.dataloader

    def _steps_done(self) -> int:
        """Steps of the current epoch that are behind; 0 where the epoch's length is not what it was."""
        length, hub = len(self.dataloader), self.runner.message_hub
        before = hub.get_info('steps_per_epoch', length)
        hub.update_info('steps_per_epoch', length)
        done = self._iter - self._epoch * before
        if before == length and 0 <= done < length:
            return done
        if before != length:
            print_log(
                f'The checkpoint was written with {before} steps an epoch, and there are {length} now: epoch '
                f'{self._epoch + 1} begins anew',
                logger='current',
            )
            self._iter = self._epoch * length
        return 0

    def _validate_if_due(self) -> None:
        """Validate after the epochs behind which mmengine does."""
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is not None and self._epoch >= self.val_begin and due:
            self.runner.val_loop.run()
