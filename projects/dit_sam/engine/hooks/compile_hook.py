"""torch.compile where it pays."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the blocks of the image encoder for training; `compile=True` in a config of tools/train.py adds it.

    mmengine compiles the whole training step, data samples and optimizer included, which takes very long and is done
    again for many batches. The blocks hold nearly all of the arithmetic and share their code, so that one is compiled
    for all of them. Validation runs as without the hook: its batches differ in size.

    Args:
        **options: Keywords of `torch.compile`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compile; the work is done in the first step."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for block in model.backbone.blocks:
            block.compile(**self.options)
        count = len(model.backbone.blocks)
        runner.logger.info(f'{count} blocks are compiled in the first step, which may take minutes')

    def before_val_epoch(self, runner: Runner) -> None:
        """Run uncompiled."""
        torch.compiler.set_stance('force_eager')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Run compiled again."""
        torch.compiler.set_stance('default')
