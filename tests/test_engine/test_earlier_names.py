"""Configs of earlier versions keep working, and the log says what was replaced."""

import pytest
from mmengine.config import Config

from dit_sam.engine.earlier_names import replace_earlier_names

SAFE = dict(type='SafeCheckpointHook')


@pytest.mark.parametrize(
    'before, after, said',
    [
        (
            dict(
                default_hooks=dict(
                    checkpoint=dict(type='WriteFirstCheckpointHook', interval=2),
                    safe_checkpoint=dict(type='SafeCheckpointHook'),
                    checkpoint_fit=dict(type='CheckpointFitHook', strict=False),
                )
            ),
            dict(default_hooks=dict(checkpoint=dict(SAFE, interval=2, strict_load=False))),
            'safe_checkpoint left out; checkpoint_fit left out; default_hooks.checkpoint.type=SafeCheckpointHook; '
            'default_hooks.checkpoint.strict_load=False',
        ),
        (
            dict(default_hooks=dict(checkpoint=SAFE, checkpoint_fit=dict(strict=False))),
            dict(default_hooks=dict(checkpoint=dict(SAFE, strict_load=False))),
            'checkpoint_fit left out; default_hooks.checkpoint.strict_load=False',
        ),
        (
            dict(default_hooks=dict(checkpoint=SAFE, safe_checkpoint=None)),
            dict(default_hooks=dict(checkpoint=SAFE)),
            'safe_checkpoint left out',
        ),
        (
            dict(default_hooks=dict(mean_loss=dict(type='MeanLossHook'))),
            dict(default_hooks=dict(runtime_info=dict(type='LossLogHook'))),
            'mean_loss left out, with default_hooks.runtime_info=LossLogHook',
        ),
        (
            dict(custom_hooks=[dict(type='CheckpointFitHook'), dict(type='EMAHook'), SAFE]),
            dict(custom_hooks=[dict(type='EMAHook')]),
            'CheckpointFitHook left out; SafeCheckpointHook left out',
        ),
        (
            dict(optim_wrapper=dict(type='AutocastOptimWrapper', sharded=True)),
            dict(optim_wrapper=dict(type='GuardedOptimWrapper', dtype='bfloat16')),
            'optim_wrapper.type=GuardedOptimWrapper, optim_wrapper.dtype=bfloat16; optim_wrapper.sharded left out',
        ),
    ],
)
def test_earlier_names_become_todays(before, after, said, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr('dit_sam.engine.earlier_names.log_warning', lines.append)
    cfg = Config(before)
    replace_earlier_names(cfg, 'mine.py')
    assert cfg.to_dict() == after
    assert lines == [f'mine.py has names of an earlier version, which are replaced: {said}']
    replace_earlier_names(cfg, 'mine.py')
    assert cfg.to_dict() == after and len(lines) == 1


@pytest.mark.parametrize(
    'settings, strict, name',
    [
        (dict(), False, 'SafeCheckpointHook'),
        # A config that is based on this project's default_runtime.py and names mmengine's hook.
        (dict(strict_load=True), True, 'SafeCheckpointHook'),
        (dict(default_scope='mmdet'), False, 'mmseg.SafeCheckpointHook'),
    ],
)
def test_mmengines_checkpoint_hook_becomes_the_safe_one(settings, strict, name):
    scope = {key: settings.pop(key) for key in ('default_scope',) if key in settings}
    cfg = Config(dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=3, **settings)), **scope))
    replace_earlier_names(cfg, 'mine.py')
    assert cfg.default_hooks.checkpoint == dict(type=name, interval=3, strict_load=strict)
