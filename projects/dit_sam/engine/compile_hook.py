"""torch.compile of the blocks of the image encoder."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS, MODELS

from ..errors import InputError, first_line
from ..mmengine_extras.config_check import class_name, name_in_scope
from ..mmengine_extras.run_check import class_of
from ..models import SAMViT


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the blocks of the image encoder for training; `compile=True` in a config of tools/train.py adds it.

    mmengine compiles the whole training step with data samples and optimizer, which takes very long and is repeated for
    many batches. The blocks do nearly all of the arithmetic and share their code, so that one compilation serves all of
    them. Validation is not compiled, because its batches differ in size.

    Args:
        **options: Keywords of `torch.compile`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Have the blocks compiled in the first step."""
        # A validation that failed earlier in this process leaves the other one.
        torch.compiler.set_stance('default')
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


def compile_blocks(cfg: Config) -> None:
    """Replace `compile` of a config with one of our image encoders by a `CompileHook`, and fix the length of its text.

    Raises:
        InputError: `compile` has another type, the training is sharded, or `torch.compile` has no such keyword or mode.
    """
    backbone = class_of(MODELS, cfg.model.get('backbone'))
    if cfg.get('compile') in (None, False) or not (isinstance(backbone, type) and issubclass(backbone, SAMViT)):
        return
    if cfg.compile is not True and not isinstance(cfg.compile, dict):
        raise InputError(
            f'compile={cfg.compile!r} is neither True nor a dict of keywords of torch.compile, as compile.mode=default '
            'makes one'
        )
    if 'strategy' in cfg:
        raise InputError('compile does not work with a strategy (FSDP, DeepSpeed): leave one of the two out')
    options = {} if cfg.compile is True else dict(cfg.compile)
    _check_options(options)
    cfg.custom_hooks = [*cfg.get('custom_hooks', ()), dict(type=name_in_scope(cfg, 'CompileHook'), **options)]
    cfg.compile = False
    # A StandaloneDITViT has its own text encoder.
    for part in (cfg.model, cfg.model.backbone):
        if class_name(part.get('text_encoder')) == 'HuggingFaceTextEncoder':
            part.text_encoder.pad_to_max_length = True


def _check_options(options: dict) -> None:
    """Refuse what `torch.compile` would refuse in the first step."""
    try:
        torch.compile(torch.nn.Identity(), **options)
    except Exception as error:  # torch raises what it finds
        raise InputError(f'compile={options}: {first_line(error)}') from error
    of_mode = torch._inductor.list_mode_options().get(options.get('mode') or 'default', {})
    settings = {**of_mode, **(options.get('options') or {})}
    if settings.get('triton.cudagraphs') or options.get('backend') == 'cudagraphs':
        raise InputError(
            f'compile={options} records CUDA graphs, in which each block would overwrite the output of the one before: '
            "take mode='max-autotune-no-cudagraphs' or 'default'"
        )
