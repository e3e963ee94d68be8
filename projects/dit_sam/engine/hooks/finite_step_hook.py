"""A training does not go on from NaN."""
import logging
import math

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...errors import InputError


@HOOKS.register_module()
class FiniteStepHook(Hook):
    """Say which items were in a batch whose step `GuardedOptimWrapper` left out, and stop after too many.

    mmengine trains on after NaN and saves it. With another wrapper, such as mmengine's for float16, which leaves out
    steps by itself, those steps count whose loss is not finite.

    Args:
        limit: Steps in a row that may be left out; one more ends the training, before a checkpoint is written.
    """

    priority = 'VERY_HIGH'

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self._seen = self._own = self._own_in_a_row = 0

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Report what was left out since the step before.

        Raises:
            InputError: More than `limit` steps in a row were left out.
        """
        skipped, in_a_row = self._count(runner, outputs or {})
        if skipped == self._seen:
            return
        self._seen = skipped
        names = [name for part in all_gather_object(names_of(data_batch)) for name in part]
        print_log(
            f'Step {runner.iter + 1} was left out, its gradients are not finite ({in_a_row} in a row, {skipped} in all)'
            f'. In the batch: {"; ".join(names)}', logger='current', level=logging.WARNING)
        if in_a_row > self.limit:
            raise InputError(f'{in_a_row} steps in a row had gradients that are not finite: the training stops, and '
                             'the last checkpoint is from before. Lower optim_wrapper.optimizer.lr, train without '
                             '--amp, or look at the items named in the log')

    def _count(self, runner: Runner, outputs: dict) -> tuple[int, int]:
        """Steps that were left out, in all and in a row."""
        if hasattr(runner.optim_wrapper, 'skipped'):
            return runner.optim_wrapper.skipped, runner.optim_wrapper.skipped_in_a_row
        bad = 'loss' in outputs and not math.isfinite(outputs['loss'].detach())
        self._own += bad
        self._own_in_a_row = self._own_in_a_row + 1 if bad else 0
        return self._own, self._own_in_a_row


def names_of(data_batch: dict | None) -> list[str]:
    """What the items of a batch are called: image and sentence."""
    samples = (data_batch or {}).get('data_samples') or []
    return [f'{sample.metainfo.get("img_path")} "{sample.metainfo.get("text", "")}"' for sample in samples]
