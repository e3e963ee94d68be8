"""Configs with names of earlier versions, such as those that lie beside a checkpoint in a work dir."""

from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ..errors import log_warning
from ..mmengine_extras.config_check import class_name, name_in_scope


def replace_earlier_names(cfg: Config | dict, source: str) -> None:
    """Replace, in place, the hooks and the optimizer wrapper that have been merged into others since, and log it.

    mmengine's `CheckpointHook` in `default_hooks` becomes `SafeCheckpointHook` too, because mmengine cannot resume what
    it writes. As before, it then loads the weights that fit, unless the config sets `strict_load`.

    Args:
        cfg: The config of a run.
        source: What to call it in the log.
    """
    changes = [*_replace_hooks(cfg), *_replace_wrapper(cfg)]
    if changes:
        log_warning(f'{source} has names of an earlier version, which are replaced: {"; ".join(changes)}')


def _replace_hooks(cfg: Config | dict) -> list[str]:
    """What was changed."""
    hooks, custom = cfg.get('default_hooks') or {}, list(cfg.get('custom_hooks') or ())
    names = [
        name
        for name, hook in hooks.items()
        if name in ('checkpoint_fit', 'safe_checkpoint') or class_name(hook) in ('CheckpointFitHook', 'MeanLossHook')
    ]
    own = [
        hook for hook in custom if class_name(hook) in ('CheckpointFitHook', 'MeanLossHook') or _is_old_safe_hook(hook)
    ]
    removed = [*(hooks.pop(name) for name in names), *own]
    if own:
        cfg['custom_hooks'] = [hook for hook in custom if hook not in own]
    changes = [f'{name} left out' for name in [*names, *(class_name(hook) for hook in own)]]
    if any(class_name(hook) == 'MeanLossHook' for hook in removed):
        hooks['runtime_info'] = dict(type=name_in_scope(cfg, 'LossLogHook'))
        changes[-1] += ', with default_hooks.runtime_info=LossLogHook'
    checkpoint = hooks.get('checkpoint')
    kind = class_name(checkpoint)
    if isinstance(checkpoint, dict) and kind in ('CheckpointHook', 'WriteFirstCheckpointHook'):
        checkpoint['type'] = name_in_scope(cfg, 'SafeCheckpointHook')
        if kind == 'CheckpointHook':
            checkpoint.setdefault('strict_load', False)
            print_log('default_hooks.checkpoint: SafeCheckpointHook in place of CheckpointHook', logger='current')
        else:
            changes.append('default_hooks.checkpoint.type=SafeCheckpointHook')
    if isinstance(checkpoint, dict) and any(isinstance(hook, dict) and hook.get('strict') is False for hook in removed):
        checkpoint['strict_load'] = False
        changes.append('default_hooks.checkpoint.strict_load=False')
    return changes


def _replace_wrapper(cfg: Config | dict) -> list[str]:
    """What was changed."""
    wrapper: Any = cfg.get('optim_wrapper')
    changes = []
    if class_name(wrapper) == 'AutocastOptimWrapper':
        wrapper.update(type=name_in_scope(cfg, 'GuardedOptimWrapper'), dtype=wrapper.get('dtype', 'bfloat16'))
        changes.append(f'optim_wrapper.type=GuardedOptimWrapper, optim_wrapper.dtype={wrapper["dtype"]}')
    if isinstance(wrapper, dict) and 'sharded' in wrapper:
        del wrapper['sharded']
        changes.append('optim_wrapper.sharded left out')
    return changes


def _is_old_safe_hook(hook: Any) -> bool:
    """Whether it is meant as the earlier hook of that name, which did not write checkpoints itself."""
    return class_name(hook) == 'SafeCheckpointHook' and set(hook) <= {'type', 'priority'}
