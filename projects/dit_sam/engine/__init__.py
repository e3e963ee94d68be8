"""What a run is made of beside model and data: hooks, optimizer wrapper, checkpoint loader, launch of the tools."""
from . import hooks
from .autocast_optim_wrapper import AutocastOptimWrapper
from .checkpoint_loader import CheckpointError, load_from_local
from .strict_loading import load_strictly

__all__ = ['AutocastOptimWrapper', 'CheckpointError', 'hooks', 'load_from_local', 'load_strictly']
