"""A small referring model on drawn pictures, with all random elements of a training."""

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from dit_sam.datasets.shapes import write_shapes
from dit_sam.mmengine_extras.finite_step_hook import names_of

ROOT = Path(__file__).parents[2]
# The same without epochs: ten steps.
ITERATIONS = """_base_ = 'small.py'
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=10, val_interval=10)
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10))
log_processor = dict(by_epoch=False)
"""


@HOOKS.register_module()
class EndHook(Hook):
    """End the process like a machine that fails, or like a scheduler that stops it.

    Args:
        step: After which step of the training, before which one of the validation, or while the checkpoint of which
            epoch is on its way to the disk; 0 never.
        during: 'begin' of a step, 'train', 'val' or 'save'.
        by: Name of the signal.
        rank: The rank to end.
    """

    # Before StopSignalHook, which acts after the step in which the signal came.
    priority = 'VERY_LOW'

    def __init__(self, step: int = 0, during: str = 'train', by: str = 'SIGKILL', rank: int = 0) -> None:
        self.step, self.during, self.signal, self.rank = step, during, getattr(signal, by), rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._end_if(runner, 'begin', runner.iter + 1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._end_if(runner, 'train', runner.iter + 1)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self._end_if(runner, 'val', batch_idx + 1)

    def before_save_checkpoint(self, runner, checkpoint):
        if self.during == 'save' and runner.epoch + 1 == self.step:
            # The file is written under a temporary name and not yet renamed.
            os.fsync = lambda descriptor: os.kill(os.getpid(), self.signal)

    def _end_if(self, runner, during: str, step: int) -> None:
        if (during, step, runner.rank) == (self.during, self.step, self.rank):
            # Ctrl-C, torchrun and Slurm also signal the data-loading processes.
            processes = (*multiprocessing.active_children(), multiprocessing.current_process())
            subprocess.run(['kill', f'-{int(self.signal)}', *(str(process.pid) for process in processes)])


@HOOKS.register_module()
class SpoilHook(Hook):
    """Make a step of one rank non-finite, and print the names of its items.

    Args:
        loss: Steps whose pictures, and so the loss, are NaN on the rank.
        gradient: Steps in which one gradient of the rank is infinite, and the loss is unchanged.
        rank: The rank.
    """

    def __init__(self, loss: tuple = (), gradient: tuple = (), rank: int = 0) -> None:
        self.loss, self.gradient, self.rank = loss, gradient, rank
        self._gradient_is_infinite = False

    def before_train(self, runner):
        weight = next(weight for weight in runner.model.parameters() if weight.requires_grad)
        weight.register_hook(lambda gradient: gradient + float('inf') if self._gradient_is_infinite else gradient)

    def before_train_iter(self, runner, batch_idx, data_batch):
        step = runner.iter + 1
        self._gradient_is_infinite = runner.rank == self.rank and step in self.gradient
        if runner.rank == self.rank and step in self.loss:
            data_batch['inputs'] = [picture * float('nan') for picture in data_batch['inputs']]
            print(f'spoiled {step}: {"; ".join(names_of(data_batch))}')


@HOOKS.register_module()
class NoWaitHook(Hook):
    """Make waits for a GPU errors from the second step of each epoch to the beginning of the fifth, the last one."""

    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode('error' if 1 <= batch_idx <= 3 else 'default')


def write_config(folder: Path) -> Path:
    """Data and config of a training of two epochs of five steps: dropout, flips, drawn sentences, EMA."""
    write_shapes(folder / 'data', images=10, seed=3, size=64, splits=dict(train=0.8, val=0.2))
    cfg = Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
    cfg.model.backbone.arch = dict(embed_dims=24, depth=2, num_heads=3, global_attn_indexes=(1,))
    cfg.merge_from_dict(
        {
            'model.backbone.instruction.dropout': 0.1,
            'model.text_encoder.model.hidden_size': 128,
            'model.text_encoder.model.num_hidden_layers': 1,
            'model.text_encoder.model.hidden_dropout_prob': 0.1,
            'train_dataloader.dataset.data_root': f'{folder}/data/',
            'train_dataloader.dataset.indices': 20,
            'val_dataloader.dataset.data_root': f'{folder}/data/',
            'val_dataloader.batch_size': 4,
            'model.data_preprocessor.size': (64, 64),
            'train_dataloader.dataset.pipeline.2.scale': (64, 64),
            'val_dataloader.dataset.pipeline.1.scale': (64, 64),
            'test_dataloader.dataset.pipeline.1.scale': (64, 64),
            'train_dataloader.batch_size': 4,
            'train_cfg.max_epochs': 2,
            'default_hooks.logger.interval': 1,
            'custom_hooks': [dict(type='EMAHook', momentum=0.1), dict(type='EndHook')],
        }
    )
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.param_scheduler[0].end = 3
    cfg.custom_imports.imports = ['dit_sam', 'resume_project']
    path = folder / 'small.py'
    cfg.dump(path)
    (folder / 'iterations.py').write_text(ITERATIONS)
    return path
