"""Hooks, one a file."""
from .checkpoint_fit_hook import CheckpointFitHook
from .referring_visualization_hook import ReferringVisualizationHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = ['CheckpointFitHook', 'ReferringVisualizationHook', 'SafeCheckpointHook']
