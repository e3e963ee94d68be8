"""Hooks, one a file."""
from .checkpoint_fit_hook import CheckpointFitHook
from .finite_step_hook import FiniteStepHook
from .random_stream_hook import RandomStreamHook
from .referring_visualization_hook import ReferringVisualizationHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .stop_signal_hook import StopSignalHook

__all__ = [
    'CheckpointFitHook', 'FiniteStepHook', 'RandomStreamHook', 'ReferringVisualizationHook', 'SafeCheckpointHook',
    'StopSignalHook'
]
