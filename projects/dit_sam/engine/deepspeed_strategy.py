"""Training by DeepSpeed, with checkpoints that appear whole and run nothing, and with steps that are counted."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmengine._strategy import DeepSpeedStrategy
from mmengine._strategy.deepspeed import DeepSpeedOptimWrapper
from mmengine.dist import barrier, is_main_process
from mmengine.registry import STRATEGIES
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from .checkpoint_loader import load_from_local
from .hooks.safe_checkpoint_hook import to_plain


@STRATEGIES.register_module()
class ResumableDeepSpeedStrategy(DeepSpeedStrategy):
    """`DeepSpeedStrategy` whose checkpoints are as safe as those of the other trainings.

    A checkpoint is a folder with files of all ranks. It is written aside, synced and renamed; the hooks see it before,
    which mmengine (0.10.7) leaves out; and its files are read as every other checkpoint, where DeepSpeed unpickles
    whatever is in them. Arguments as in the parent.
    """

    def __init__(self, **kwargs: Any) -> None:
        # mmengine registers DeepSpeed's own optimizers, and ends where some of them are gone, as from 0.19 on.
        with mock.patch('mmengine._strategy.deepspeed.register_deepspeed_optimizers'):
            super().__init__(**kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        """As in the parent; mmengine's runner tells the batch size only to a strategy of the parent's name."""
        self.config.setdefault(
            'train_micro_batch_size_per_gpu', self.dispatch_kwargs.get('train_micro_batch_size_per_gpu', 1)
        )
        # It goes into the checkpoints.
        self.config = to_plain(self.config)
        wrapped = super()._wrap_model(model)
        wrapped.model.checkpoint_engine.load = load_shard
        return wrapped

    def save_checkpoint(
        self, filename: str, *, extra_ckpt: dict | None = None, callback: Callable | None = None, **kwargs: Any
    ) -> None:
        """Save to the folder `filename`; all ranks call it, with arguments as in the parent.

        Without the optimizer it is a file, as of any other training.
        """
        extra_ckpt = {} if extra_ckpt is None else extra_ckpt
        if callback is not None:
            callback(extra_ckpt)
        target = Path(filename)
        aside = target.with_name(f'.{target.name}.part')
        super().save_checkpoint(str(aside), extra_ckpt=extra_ckpt, **kwargs)
        for file in aside.glob('*'):
            with open(file, 'rb+') as written:
                os.fsync(written.fileno())
        barrier()
        if is_main_process():
            _replace(aside, target)
        barrier()


def _replace(aside: Path, target: Path) -> None:
    """Rename a file, or a folder that may be there already."""
    if target.is_dir():
        old = target.with_name(f'.{target.name}.old.part')
        target.rename(old)
        aside.rename(target)
        shutil.rmtree(old)
    else:
        aside.rename(target)


def load_shard(path: str, map_location: Any = None) -> dict:
    """Read a file of a checkpoint of DeepSpeed, with the few classes of its own that are in it, and run nothing.

    Args:
        path: The file.
        map_location: As in `torch.load`.

    Raises:
        CheckpointError: As in `load_from_local`.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]):
        # DeepSpeed keeps tensors of the file as its state.
        return load_from_local(path, map_location)


@OPTIM_WRAPPERS.register_module()
class CountedDeepSpeedOptimWrapper(DeepSpeedOptimWrapper):
    """`DeepSpeedOptimWrapper` that tells `FiniteStepHook` which steps DeepSpeed left out, on all ranks alike.

    Attributes:
        skipped: Steps left out so far, as their gradients were not finite.
        skipped_in_a_row: Those since the last step that was taken.
    """

    skipped = skipped_in_a_row = 0

    @property
    def counts(self) -> Tensor:
        """Both, as in `GuardedOptimWrapper`. DeepSpeed's own step waits for the device, so these are known."""
        return torch.tensor([self.skipped, self.skipped_in_a_row])

    def step(self, **kwargs: Any) -> None:
        """Step, if the gradients are finite."""
        before = self.model.skipped_steps
        super().step(**kwargs)
        left_out = self.model.skipped_steps - before
        self.skipped += left_out
        self.skipped_in_a_row = self.skipped_in_a_row + left_out if left_out else 0
