"""What a run is made of beside model and data: loop, sampler, hooks, optimizer wrappers, checkpoints, launch."""

from . import hooks
from .atomic_local_backend import AtomicLocalBackend
from .autocast_optim_wrapper import AutocastOptimWrapper
from .checkpoint_loader import CheckpointError, load_from_local
from .deepspeed_strategy import CountedDeepSpeedOptimWrapper, ResumableDeepSpeedStrategy
from .guarded_optim_wrapper import GuardedOptimWrapper
from .layer_decay import SAMLayerDecayConstructor
from .merged_groups import MergedOptimWrapperConstructor
from .resumable_sampler import ResumableSampler
from .resumable_train_loop import ResumableTrainLoop
from .sharding import ResumableFSDPStrategy, wrap_instructed_blocks
from .strict_loading import load_strictly

__all__ = [
    'AtomicLocalBackend',
    'AutocastOptimWrapper',
    'CheckpointError',
    'CountedDeepSpeedOptimWrapper',
    'GuardedOptimWrapper',
    'MergedOptimWrapperConstructor',
    'ResumableDeepSpeedStrategy',
    'ResumableFSDPStrategy',
    'ResumableSampler',
    'ResumableTrainLoop',
    'SAMLayerDecayConstructor',
    'hooks',
    'load_from_local',
    'load_strictly',
    'wrap_instructed_blocks',
]
