"""What the tools change in a config."""

import pytest
from mmengine.config import Config

from dit_sam.engine.launch import _use_safe_checkpoint_hook, warn_of_earlier_training


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
    scope = settings.pop('default_scope', 'mmseg')
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=3, **settings))
    cfg = Config(dict(default_hooks=hooks, default_scope=scope))
    _use_safe_checkpoint_hook(cfg)
    assert cfg.default_hooks.checkpoint == dict(type=name, interval=3, strict_load=strict)


def test_a_config_without_the_key_resume_starts_anew(tmp_path):
    warn_of_earlier_training(Config(dict(work_dir=str(tmp_path))))
