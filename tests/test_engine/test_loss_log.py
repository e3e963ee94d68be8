"""The log has the numbers that mmengine's has on one rank, though they are read where a line of it is written."""
import re
from pathlib import Path

import pytest
from dit_sam.engine.launch import load_config
from mmengine.runner import Runner
from processes import run_ranks

CONFIG = Path(__file__).parents[1] / 'toy_config.py'
LOOPS = dict(epochs=dict(by_epoch=True, max_epochs=2, val_interval=1),
             iterations=dict(by_epoch=False, max_iters=14, val_interval=7))
OPTIONS = {'train_dataloader.batch_size': 2, 'train_dataloader.dataset.items': 14,
           'optim_wrapper.type': 'GuardedOptimWrapper', 'optim_wrapper.accumulative_counts': 2,
           'optim_wrapper.clip_grad': dict(max_norm=1.), 'default_hooks.logger.interval': 3,
           'log_processor.window_size': 5}
MMENGINE = {'default_hooks.runtime_info.type': 'RuntimeInfoHook', 'optim_wrapper.type': 'OptimWrapper'}


def lines(folder: Path) -> list[str]:
    """What a training logged of its steps, without times."""
    log = next(folder.glob('*/*.log')).read_text()
    found = re.findall(r'INFO - ((?:Epoch|Iter)\(train\).*)', log)
    return [re.sub(r'(eta|time|data_time): [\d:.]+ *', '', line) for line in found]


@pytest.mark.parametrize('loop', LOOPS)
def test_the_lines_are_those_of_mmengine(tmp_path, loop):
    """Seven batches an epoch, the last of them a step by itself; lines behind the third and the sixth."""
    for name, options in dict(here={}, mmengine=MMENGINE).items():
        cfg = load_config(str(CONFIG), work_dir=str(tmp_path / name), cfg_options={**OPTIONS, **options})
        cfg.experiment_name, cfg.train_cfg, cfg.log_processor.by_epoch = name, LOOPS[loop], loop == 'epochs'
        Runner.from_cfg(cfg).train()
    here = lines(tmp_path / 'here')
    assert here == lines(tmp_path / 'mmengine') and len(here) == 4
    assert all(re.search(r'lr: \S+ .*loss: \d+\.\d+  grad_norm: \d+\.\d+$', line) for line in here)


def test_two_ranks_log_the_mean_of_both(tmp_path):
    """Two ranks that share a batch of two have the lines of one."""
    options = [f'{key}={value}' for key, value in OPTIONS.items() if not isinstance(value, dict)]
    for ranks in (1, 2):
        done = run_ranks(
            ranks, 'train.py', CONFIG, '--work-dir', tmp_path / str(ranks), '--cfg-options', *options,
            'optim_wrapper.clip_grad.max_norm=1.', f'train_dataloader.batch_size={2 // ranks}',
            *([f'{key}={value}' for key, value in MMENGINE.items()] if ranks == 1 else []))
        assert [each.returncode for each in done] == [0] * ranks, done[0].output[-3000:]
    assert lines(tmp_path / '2') == lines(tmp_path / '1') != []
