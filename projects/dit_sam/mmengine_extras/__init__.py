"""Extensions of mmengine that do not depend on this project's models: checkpoints, resume, optimizer, diagnostics.

They import only errors, compat and utils of this project.
"""

from ..utils.checkpoints import register_loaders
from .checkpoint_hook import SafeCheckpointHook
from .checkpoint_io import AtomicLocalBackend, use_atomic_local_backend
from .exact_resume import RandomStreamHook, ResumableSampler, ResumableTrainLoop
from .finite_step_hook import FiniteStepHook
from .loss_log_hook import LossLogHook
from .optim_wrapper import GuardedOptimWrapper
from .stop_signal_hook import StopSignalHook
from .strategies import CountedDeepSpeedOptimWrapper, ResumableDeepSpeedStrategy, ResumableFSDPStrategy
from .tf32_hook import TF32Hook


def install() -> None:
    """Make the changes to mmengine that hold for the whole process: how checkpoints are read and files are written."""
    register_loaders()
    use_atomic_local_backend()


install()

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
    'install',
]
