"""Strategies of mmengine's FlexibleRunner: FSDP and DeepSpeed, with checkpoints that are safe and resume."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from mmengine._strategy import DeepSpeedStrategy, FSDPStrategy
from mmengine._strategy.deepspeed import DeepSpeedOptimWrapper
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.registry import STRATEGIES
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

from ..compat import replaced
from ..utils.checkpoints import load_from_local
from .checkpoint_hook import to_plain
from .checkpoint_io import drop_config


@STRATEGIES.register_module()
class ResumableFSDPStrategy(FSDPStrategy):
    """`FSDPStrategy` that can resume; arguments as in the parent.

    mmengine (0.10.7) passes the optimizer's state on in torch 2.0's format, which raises an error since torch 2.1.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take each rank's shards out of the state of the whole optimizer."""
        optimizer = self.optim_wrapper.optimizer
        shards = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(shards)


def copies_of_gradients(model: nn.Module) -> dict[nn.Parameter, int]:
    """For each parameter of a model with FSDP, the number of ranks with the same part of its gradient.

    It is one with FULL_SHARD, and one per group of ranks that holds the whole model with HYBRID_SHARD. Gradients
    without shards (NO_SHARD, or parameters that FSDP ignores) are on all ranks. Empty if nothing is in shards.

    Args:
        model: The model before the forward pass, when its parameters are the shards.
    """
    units = FullyShardedDataParallel.fsdp_modules(model)
    if all(unit.sharding_strategy is ShardingStrategy.NO_SHARD for unit in units):
        return {}
    copies: dict[nn.Parameter, int] = {}
    # From the outside in: a parameter belongs to its innermost unit.
    for unit in units:
        group = cast(ProcessGroup, unit.process_group)
        ranks = 1 if unit.sharding_strategy is ShardingStrategy.NO_SHARD else group.size()
        copies.update(dict.fromkeys(unit.parameters(), get_world_size() // ranks))
    for unit in units:
        copies.update(dict.fromkeys(unit._ignored_params, get_world_size()))
    return copies


@STRATEGIES.register_module()
class ResumableDeepSpeedStrategy(DeepSpeedStrategy):
    """`DeepSpeedStrategy` whose checkpoints are as safe as those of other trainings; arguments as in the parent.

    A checkpoint is a folder with files of all ranks. Hooks get it before it is saved, unlike in mmengine (0.10.7). It
    is written to a temporary name, synced and renamed. Its files are read safely, while DeepSpeed unpickles anything.
    """

    config: dict

    def __init__(self, **kwargs: Any) -> None:
        # mmengine registers DeepSpeed's own optimizers, and fails if some of them are missing, as since 0.19.
        with replaced('mmengine._strategy.deepspeed', 'register_deepspeed_optimizers', lambda: []):
            super().__init__(**kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        # mmengine's runner tells the batch size only to a strategy with the parent's name.
        self.config.setdefault(
            'train_micro_batch_size_per_gpu', self.dispatch_kwargs.get('train_micro_batch_size_per_gpu', 1)
        )
        # The config becomes part of the checkpoints.
        self.config = to_plain(self.config)
        wrapped = super()._wrap_model(model)
        wrapped.model.checkpoint_engine.load = load_shard
        return wrapped

    def save_checkpoint(
        self, filename: str, *, extra_ckpt: dict | None = None, callback: Callable | None = None, **kwargs: Any
    ) -> None:
        """Save to the folder `filename`, or without the optimizer to a file; all ranks call it.

        Arguments as in the parent; `callback` gets `extra_ckpt` before it is saved.
        """
        extra_ckpt = {} if extra_ckpt is None else extra_ckpt
        if callback is not None:
            callback(extra_ckpt)
        target = Path(filename)
        temporary = target.with_name(f'.{target.name}.part')
        super().save_checkpoint(str(temporary), extra_ckpt=extra_ckpt, **kwargs)
        for file in temporary.glob('*'):
            with open(file, 'rb+') as written:
                os.fsync(written.fileno())
        barrier()
        if is_main_process():
            _rename(temporary, target)
        barrier()


def _rename(source: Path, target: Path) -> None:
    """Rename a file, or a folder that may replace another.

    `remove_unfinished_writes` finishes what a kill interrupts.
    """
    if target.is_dir():
        old = target.with_name(f'.{target.name}.old')
        target.rename(old)
        source.rename(target)
        shutil.rmtree(old)
    else:
        source.rename(target)


def load_shard(path: str, map_location: Any = None) -> dict:
    """Read a file of a DeepSpeed checkpoint without running code; a few classes of DeepSpeed are allowed in it.

    Raises:
        CheckpointError: As in `load_from_local`.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]):
        # Not mapped: DeepSpeed keeps tensors of the file as its state.
        shard = load_from_local(path, map_location)
    drop_config(shard)
    return shard


@OPTIM_WRAPPERS.register_module()
class CountedDeepSpeedOptimWrapper(DeepSpeedOptimWrapper):
    """`DeepSpeedOptimWrapper` that counts the steps that DeepSpeed skips, for `FiniteStepHook`; equal on all ranks.

    Attributes:
        skipped: Steps skipped so far, because their gradients were not finite.
        skipped_in_a_row: Steps skipped since the last one that was taken.
    """

    skipped = skipped_in_a_row = 0
    _has_stepped = True

    @property
    def counts(self) -> Tensor:
        """Both numbers, as in `GuardedOptimWrapper`. DeepSpeed's step has waited for the device already."""
        return torch.tensor([self.skipped, self.skipped_in_a_row])

    def step(self, **kwargs: Any) -> None:
        """Step, if the gradients are finite."""
        # Batches that are accumulated take no step.
        before, self._has_stepped = self.model.skipped_steps, self.model.is_gradient_accumulation_boundary()
        super().step(**kwargs)
        newly_skipped = self.model.skipped_steps - before
        self.skipped += newly_skipped
        if self._has_stepped:
            self.skipped_in_a_row = self.skipped_in_a_row + newly_skipped if newly_skipped else 0

    def should_update(self) -> bool:
        """Whether the last batch took a step; other batches are only accumulated. As in `OptimWrapper`."""
        return self._has_stepped
