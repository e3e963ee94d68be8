"""Extensions of mmengine that do not depend on this project's models: checkpoints, resume, optimizer, diagnostics.

They import only errors, compat and utils of this project.
"""

from ..compat import find_configs_of_forks
from ..utils.checkpoint_sources import register_loaders
from .checkpoint_hook import SafeCheckpointHook
from .checkpoint_io import AtomicLocalBackend, use_atomic_local_backend
from .exact_resume import RandomStreamHook, ResumableSampler, ResumableTrainLoop
from .finite_step_hook import FiniteStepHook
from .loss_log_hook import LossLogHook
from .optim_wrapper import GuardedOptimWrapper
from .stop_signal_hook import StopSignalHook
from .strategies import CountedDeepSpeedOptimWrapper, ResumableDeepSpeedStrategy, ResumableFSDPStrategy
from .tf32_hook import TF32Hook


def prepare_process() -> None:
    """Switch on what the tools of this project need from mmengine, for the whole process.

    Checkpoints are read without running code in them, wherever mmengine reads one; local files are written as a whole
    or not at all; and `mmseg::` and `mmdet::` in configs also find the onedl forks. The programs in tools/, `dit-sam`
    and `ReferringInferencer` call it. `import dit_sam` does not: the loaders and backends of other programs stay.
    """
    register_loaders()
    use_atomic_local_backend()
    find_configs_of_forks()


__all__ = [
    'AtomicLocalBackend',
    'CountedDeepSpeedOptimWrapper',
    'FiniteStepHook',
    'GuardedOptimWrapper',
    'LossLogHook',
    'RandomStreamHook',
    'ResumableDeepSpeedStrategy',
    'ResumableFSDPStrategy',
    'ResumableSampler',
    'ResumableTrainLoop',
    'SafeCheckpointHook',
    'StopSignalHook',
    'TF32Hook',
    'prepare_process',
]
