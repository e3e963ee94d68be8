"""A training does not go on from NaN."""
import logging
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ...errors import InputError


@HOOKS.register_module()
class FiniteStepHook(Hook):
    """Say which items were in the batches whose step `GuardedOptimWrapper` left out, and stop after too many.

    All ranks leave out the same steps and stop together. Where the loss tells which ranks it was, their items are
    named, else those of all. mmengine trains on after NaN and saves it. With another wrapper, such as mmengine's for
    float16, which leaves out steps by itself, those steps count whose loss is not finite.

    Args:
        limit: Steps in a row that may be left out; one more ends the training, before a checkpoint is written.
    """

    # Before MeanLossHook, behind which the losses are no longer those of this rank.
    priority = 'HIGHEST'

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self._seen = self._own = self._own_in_a_row = 0
        # Of each batch since the last step, several where gradients are accumulated.
        self._batches: list[tuple[Tensor | None, list[str]]] = []

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Report what was left out since the step before.

        Raises:
            InputError: More than `limit` steps in a row were left out.
        """
        loss = (outputs or {}).get('loss')
        self._batches.append((None if loss is None else loss.detach(), names_of(data_batch)))
        skipped, in_a_row = self._count(runner.optim_wrapper)
        if skipped > self._seen:
            self._report(runner.iter + 1, skipped, in_a_row)
        self._seen = skipped
        if getattr(runner.optim_wrapper, 'should_update', lambda: True)():
            self._batches.clear()

    def _report(self, step: int, skipped: int, in_a_row: int) -> None:
        print_log(
            f'Step {step} was left out, its gradients are not finite ({in_a_row} in a row, {skipped} in all). '
            f'{_culprits(all_gather_object(self._finite_and_names()))}', logger='current', level=logging.WARNING)
        if in_a_row > self.limit:
            raise InputError(f'{in_a_row} steps in a row had gradients that are not finite: the training stops, and '
                             'the last checkpoint is from before. Lower optim_wrapper.optimizer.lr, train without '
                             '--amp, or look at the items named in the log')

    def _finite_and_names(self) -> list[tuple[bool, list[str]]]:
        return [(loss is None or bool(loss.isfinite()), names) for loss, names in self._batches]

    def _count(self, wrapper: Any) -> tuple[int, int]:
        """Steps that were left out, in all and in a row; the same on all ranks."""
        if hasattr(wrapper, 'skipped'):
            return wrapper.skipped, wrapper.skipped_in_a_row
        loss, _ = self._batches[-1]
        bad = torch.tensor(0 if loss is None else int(not loss.isfinite()), device=get_device())
        all_reduce(bad, 'max')
        self._own += bad.item()
        self._own_in_a_row = self._own_in_a_row + 1 if bad else 0
        return self._own, self._own_in_a_row


def names_of(data_batch: dict | None) -> list[str]:
    """What the items of a batch are called: image and sentence."""
    samples = (data_batch or {}).get('data_samples') or []
    return [f'{sample.metainfo.get("img_path")} "{sample.metainfo.get("text", "")}"' for sample in samples]


def _culprits(ranks: list[list[tuple[bool, list[str]]]]) -> str:
    """Whose loss it was, and the items of these batches; all items where every loss was finite.

    Args:
        ranks: For each rank its batches: whether the loss was finite, and the names.
    """
    batches = [(rank, finite, names) for rank, part in enumerate(ranks) for finite, names in part]
    bad = [(rank, names) for rank, finite, names in batches if not finite]
    told = bad or [(rank, names) for rank, _, names in batches]
    of = f' whose loss is not finite (rank {", ".join(map(str, sorted({rank for rank, _ in bad})))})' if bad else ''
    return f'In the batch{of}: {"; ".join(name for _, names in told for name in names)}'
