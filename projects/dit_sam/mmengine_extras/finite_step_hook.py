"""The hook that reports steps with NaN or infinity, and stops after too many in a row."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..errors import InputError, log_warning
from .optim_wrapper import has_stepped
from .ranks import lengths_of_ranks


class _Batch(NamedTuple):
    loss: Tensor | None
    names: list[str]

    @property
    def is_finite(self) -> Tensor:
        loss = torch.zeros((), device=get_device()) if self.loss is None else self.loss
        return loss.isfinite().all()


class _Step(NamedTuple):
    number: int
    # As in GuardedOptimWrapper.
    counts: Tensor | None
    # Several if gradients are accumulated.
    batches: list[_Batch]


@HOOKS.register_module()
class FiniteStepHook(Hook):
    """Names the items whose step `GuardedOptimWrapper` skipped, and stops the training after too many such steps.

    mmengine continues after NaN and saves it. Here all ranks skip the same steps and stop together. If losses show
    which ranks were affected, their items are named, otherwise those of all ranks. With another wrapper that skips
    steps by itself, such as mmengine's for float16, steps with a non-finite loss are counted.

    To read the counts, the host must wait for the GPU. It does so in every `interval`-th batch, at the end of an epoch,
    before a validation and before `CheckpointHook` or `StopSignalHook` saves. A report, and the end of a training, may
    thus come up to `interval` - 1 batches late. This does not change the weights, because every step is skipped or
    taken when it is due. With a wrapper that does not count, every batch is checked.

    Args:
        limit: Number of steps in a row that may be skipped; one more ends the training, before a checkpoint is saved.
        interval: Number of batches between two checks, if the wrapper counts skipped steps.
    """

    priority = 'HIGHEST'

    def __init__(self, limit: int = 10, interval: int = 50) -> None:
        self.limit, self.interval = limit, interval
        self._reported = self._counted = self._counted_in_a_row = 0
        self._batches: list[_Batch] = []
        self._steps: list[_Step] = []
        # The numbers of batches after which some rank ends its epoch.
        self._lengths: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        """Ask the ranks for the lengths of their epochs."""
        self._lengths = lengths_of_ranks(runner.train_dataloader)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Record the batch, and report skipped steps if due; errors as in `report`."""
        loss = (outputs or {}).get('loss')
        self._batches.append(_Batch(None if loss is None else loss.detach(), names_of(data_batch)))
        if has_stepped(runner.optim_wrapper):
            self._steps.append(_Step(runner.iter + 1, getattr(runner.optim_wrapper, 'counts', None), self._batches))
            self._batches = []
        if self._is_due(runner, batch_idx):
            self.report()

    def before_val_epoch(self, runner: Runner) -> None:
        """Report before the weights are scored, and perhaps saved as the best."""
        self.report()

    def _is_due(self, runner: Runner, batch_idx: int) -> bool:
        """Whether to report now; the same on all ranks."""
        return (
            not hasattr(runner.optim_wrapper, 'counts')
            or self.every_n_train_iters(runner, self.interval)
            or self.is_last_train_iter(runner)
            or batch_idx + 1 in self._lengths
            or any(
                self.every_n_train_iters(runner, hook.interval)
                for hook in runner.hooks
                if isinstance(hook, CheckpointHook) and not hook.by_epoch
            )
        )

    def report(self) -> None:
        """Report the steps that were skipped since the last call; all ranks call it together.

        Raises:
            InputError: More than `limit` steps in a row were skipped.
        """
        steps, self._steps = self._steps, []
        newly_skipped = []
        for step, (skipped, in_a_row) in zip(steps, self._counts(steps)):
            if skipped > self._reported:
                newly_skipped.append((step, skipped, in_a_row))
            self._reported = skipped
        if not newly_skipped:
            return
        ranks = all_gather_object(
            [[(bool(batch.is_finite), batch.names) for batch in step.batches] for step, *_ in newly_skipped]
        )
        for (step, skipped, in_a_row), *of_ranks in zip(newly_skipped, *ranks):
            log_warning(
                f'Step {step.number} was skipped, because its gradients are not finite ({in_a_row} in a row, '
                f'{skipped} in all). {_items_of(of_ranks)}'
            )
            if in_a_row > self.limit:
                raise InputError(
                    f'{in_a_row} steps in a row had gradients that are not finite: the training stops, '
                    'and the last checkpoint is from before. Lower optim_wrapper.optimizer.lr, train '
                    'without --amp, or look at the items named in the log'
                )

    def _counts(self, steps: list[_Step]) -> list[list[int]]:
        """After each step, the numbers of steps skipped so far and in a row; the same on all ranks."""
        if not steps:
            return []
        counts = [step.counts for step in steps if step.counts is not None]
        if counts:
            return torch.stack(counts).tolist()
        bad = torch.stack([~torch.stack([batch.is_finite for batch in step.batches]).all() for step in steps]).long()
        all_reduce(bad, 'max')
        totals = []
        for is_bad in bad.tolist():
            self._counted += is_bad
            self._counted_in_a_row = (self._counted_in_a_row + 1) * is_bad
            totals.append([self._counted, self._counted_in_a_row])
        return totals


def names_of(data_batch: Any) -> list[str]:
    """Image and sentence of each item of a batch in mm's form; batches of other forms have no names."""
    samples = (data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None) or []
    return [f'{sample.metainfo.get("img_path")} "{sample.metainfo.get("text", "")}"' for sample in samples]


def _items_of(ranks: list[list[tuple[bool, list[str]]]]) -> str:
    """The items of the batches whose loss is not finite, or of all batches if every loss is finite.

    Args:
        ranks: For each rank its batches: whether the loss is finite, and the names of the items.
    """
    batches = [(rank, finite, names) for rank, part in enumerate(ranks) for finite, names in part]
    bad = [(rank, names) for rank, finite, names in batches if not finite]
    listed = bad or [(rank, names) for rank, _, names in batches]
    of = f' whose loss is not finite (rank {", ".join(map(str, sorted({rank for rank, _ in bad})))})' if bad else ''
    return f'In the batch{of}: {"; ".join(name for _, names in listed for name in names)}'
