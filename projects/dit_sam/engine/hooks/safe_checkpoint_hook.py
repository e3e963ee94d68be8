"""Checkpoints that ``torch.load(weights_only=True)`` opens."""

import logging
from collections import OrderedDict
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS

_KEPT = (bool, int, float, complex, str, bytes, type(None), torch.Tensor, torch.dtype, torch.device, torch.Size)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Reduce a checkpoint to tensors and plain Python values before it is written.

    mmengine stores its log histories as ``HistoryBuffer`` objects and scores as numpy scalars. Safe loading, the
    default from torch 2.6 on, refuses both, and so mmengine (0.10.7) cannot resume from its own checkpoints. The
    histories serve the smoothing of logged values only, and are left out; everything else is kept by value.
    """

    # Last, after hooks such as EMAHook have put their part into the checkpoint.
    priority = 'LOWEST'

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Replace, in place, what safe loading would refuse.

        Args:
            runner (Runner): The runner of the training process.
            checkpoint (dict): The checkpoint about to be written.
        """
        hub = checkpoint.get('message_hub')
        if hub is not None:
            resumed = {key: value for key, value in hub['resumed_keys'].items() if key in hub['runtime_info']}
            checkpoint['message_hub'] = {**hub, 'log_scalars': OrderedDict(), 'resumed_keys': resumed}
        # Model weights are tensors, and their OrderedDict carries module versions in an attribute.
        for key in [key for key in checkpoint if not key.endswith('state_dict')]:
            checkpoint[key] = to_plain(checkpoint[key], key)


def to_plain(value: Any, name: str = 'value') -> Any:
    """Turn numpy values, paths and subclasses of containers into plain Python; tensors stay the same objects.

    Args:
        value (Any): A nested structure.
        name (str): What to call it in warnings. Defaults to 'value'.

    Returns:
        Any: The structure rebuilt. An object of any other class becomes None, with a warning that names it.
    """
    if type(value) in _KEPT or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return to_plain(value.tolist(), name)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((to_plain(key, name), to_plain(item, f'{name}.{key}')) for key, item in value.items())
    for kind in (list, tuple, set):
        if isinstance(value, kind):
            return kind(to_plain(item, f'{name}[{index}]') for index, item in enumerate(value))
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    print_log(
        f'{name} is saved as None in the checkpoint: safe loading would refuse an object of '
        f'{type(value).__module__}.{type(value).__qualname__}',
        logger='current',
        level=logging.WARNING,
    )
    return None
