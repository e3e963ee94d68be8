"""Hooks, one a file."""

from .checkpoint_fit_hook import CheckpointFitHook
from .compile_hook import CompileHook
from .finite_step_hook import FiniteStepHook
from .loss_log_hook import LossLogHook
from .random_stream_hook import RandomStreamHook
from .referring_visualization_hook import ReferringVisualizationHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .stop_signal_hook import StopSignalHook
from .tf32_hook import TF32Hook
from .write_first_checkpoint_hook import WriteFirstCheckpointHook

__all__ = [
    'CheckpointFitHook',
    'CompileHook',
    'FiniteStepHook',
    'LossLogHook',
    'RandomStreamHook',
    'ReferringVisualizationHook',
    'SafeCheckpointHook',
    'StopSignalHook',
    'TF32Hook',
    'WriteFirstCheckpointHook',
]
