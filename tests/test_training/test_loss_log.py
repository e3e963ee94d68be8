"""The log has the same numbers as mmengine's on one rank, although they are read only when a line is written."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from processes import ROOT, run_ranks
from toy_project import ToyModel

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import GuardedOptimWrapper

CONFIG = Path(__file__).parents[1] / 'toy_config.py'
LOOPS = dict(
    epochs=dict(by_epoch=True, max_epochs=2, val_interval=1),
    iterations=dict(by_epoch=False, max_iters=14, val_interval=7),
)
OPTIONS = {
    'train_dataloader.batch_size': 2,
    'train_dataloader.dataset.items': 14,
    'optim_wrapper.type': 'GuardedOptimWrapper',
    'optim_wrapper.accumulative_counts': 2,
    'optim_wrapper.clip_grad': dict(max_norm=1.0),
    'default_hooks.logger.interval': 3,
    'log_processor.window_size': 5,
}
MMENGINE = {'default_hooks.runtime_info.type': 'RuntimeInfoHook', 'optim_wrapper.type': 'OptimWrapper'}


def lines(folder: Path) -> list[str]:
    """The logged lines of the steps of a training, without times."""
    log = next(folder.glob('*/*.log')).read_text()
    found = re.findall(r'INFO - ((?:Epoch|Iter)\(train\).*)', log)
    return [re.sub(r'(eta|time|data_time): [\d:.]+ *', '', line) for line in found]


@pytest.mark.parametrize('loop', LOOPS)
def test_the_lines_equal_those_of_mmengine(tmp_path, loop):
    """Seven batches an epoch, the last of them a step by itself; lines after the third and the sixth."""
    for name, options in dict(here={}, mmengine=MMENGINE).items():
        cfg = load_config(str(CONFIG), work_dir=str(tmp_path / name), cfg_options={**OPTIONS, **options})
        cfg.experiment_name, cfg.train_cfg, cfg.log_processor.by_epoch = name, LOOPS[loop], loop == 'epochs'
        Runner.from_cfg(cfg).train()
    here = lines(tmp_path / 'here')
    assert here == lines(tmp_path / 'mmengine') and len(here) == 4
    assert all(re.search(r'lr: \S+ .*loss: \d+\.\d+  grad_norm: \d+\.\d+$', line) for line in here)


def test_all_values_of_the_log_but_the_rate_are_means():
    """mmengine's own pattern leaves out all but losses, times and norms, which are then those of the last batch."""
    pattern = Config.fromfile(ROOT / 'configs' / '_base_' / 'default_runtime.py').log_processor.mean_pattern
    names = (
        'decode.mean_iou',
        'decode.no_target_accuracy',
        'decode.loss_bce',
        'loss',
        'grad_norm',
        'data_time',
        'time',
    )
    assert all(re.search(pattern, name) for name in names) and not re.search(pattern, 'lr')


def test_two_ranks_log_the_mean_of_both(tmp_path):
    """Two ranks that share a batch of two have the lines of one."""
    options = [f'{key}={value}' for key, value in OPTIONS.items() if not isinstance(value, dict)]
    for ranks in (1, 2):
        done = run_ranks(
            ranks,
            'train.py',
            CONFIG,
            '--work-dir',
            tmp_path / str(ranks),
            '--cfg-options',
            *options,
            'optim_wrapper.clip_grad.max_norm=1.',
            f'train_dataloader.batch_size={2 // ranks}',
            *([f'{key}={value}' for key, value in MMENGINE.items()] if ranks == 1 else []),
        )
        assert [each.returncode for each in done] == [0] * ranks, done[0].output[-3000:]
    assert lines(tmp_path / '2') == lines(tmp_path / '1') != []


def test_ranks_of_an_iteration_loop_with_unequal_numbers_of_batches_log_together(tmp_path):
    """Of seven items rank 0 has four and rank 1 three, after which it writes a line; the first step is skipped."""
    (tmp_path / 'toy.py').write_text(f"""_base_ = '{CONFIG}'
custom_imports = dict(imports=['dit_sam', 'toy_project', 'resume_project'])
custom_hooks = [dict(type='SpoilHook', gradient=(1, ))]
train_dataloader = dict(batch_size=1, dataset=dict(items=7), sampler=dict(round_up=False))
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=8, val_interval=8)
optim_wrapper = dict(type='GuardedOptimWrapper')
default_hooks = dict(logger=dict(interval=5), checkpoint=dict(by_epoch=False, interval=8))
log_processor = dict(by_epoch=False)
""")
    done = run_ranks(2, 'train.py', tmp_path / 'toy.py', '--work-dir', tmp_path, timeout=60)
    assert [each.returncode for each in done] == [0, 0], done[0].output[-3000:]
    assert re.findall(r'\d+/8', ' '.join(lines(tmp_path))) == ['4/8', '5/8']
    assert 'Step 1 was skipped' in done[0].output


class WithTwoOptimizers(ToyModel):
    """`ToyModel` whose weight and bias have an optimizer each."""

    def train_step(self, data, optim_wrapper):
        loss = self(**self.data_preprocessor(data, True), mode='loss')
        loss['loss'].backward()
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return loss


def test_mmengines_hook_also_logs_the_norm_of_a_guarded_step(tmp_path):
    cfg = load_config(
        str(CONFIG),
        work_dir=str(tmp_path),
        cfg_options={**OPTIONS, 'default_hooks.runtime_info.type': 'RuntimeInfoHook'},
    )
    Runner.from_cfg(cfg).train()
    assert re.findall(r'grad_norm: \d+\.\d+', ' '.join(lines(tmp_path))) != []


def test_several_optimizers_train_and_log_their_norm(tmp_path):
    runner = Runner.from_cfg(load_config(str(CONFIG), work_dir=str(tmp_path), cfg_options=OPTIONS))
    runner.model = WithTwoOptimizers()
    wrappers = {
        name: GuardedOptimWrapper(optimizer=torch.optim.SGD([weight], lr=0.1), clip_grad=dict(max_norm=1.0))
        for name, weight in runner.model.named_parameters()
    }
    runner.optim_wrapper = OptimWrapperDict(**wrappers)
    runner.train()
    assert re.findall(r'grad_norm: \d+\.\d+', ' '.join(lines(tmp_path))) != []


def test_a_second_hook_that_logs_losses_is_refused(tmp_path):
    cfg = load_config(
        str(CONFIG),
        work_dir=str(tmp_path),
        cfg_options={'default_hooks.runtime_info.type': 'RuntimeInfoHook', 'custom_hooks': [dict(type='LossLogHook')]},
    )
    with pytest.raises(InputError, match=r"RuntimeInfoHook would each log.*runtime_info=dict\(type='LossLogHook'\)"):
        Runner.from_cfg(cfg).train()


@HOOKS.register_module()
class AskTF32Hook(Hook):
    """Record torch's precision settings in a training and in a validation."""

    told = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.told.append(precision())

    before_val_iter = before_train_iter


def precision() -> tuple[str, bool, bool]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


@pytest.mark.parametrize('enabled, expected', [(False, ('highest', False, False)), (True, ('high', True, True))])
def test_tf32_follows_the_config_in_a_run_and_is_restored_afterward(tmp_path, monkeypatch, enabled, expected):
    # As torch comes.
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    before = precision()
    AskTF32Hook.told.clear()
    Runner.from_cfg(
        load_config(
            str(CONFIG),
            work_dir=str(tmp_path),
            cfg_options={'default_hooks.tf32.enabled': enabled, 'custom_hooks': [dict(type='AskTF32Hook')]},
        )
    ).train()
    assert set(AskTF32Hook.told) == {expected} and precision() == before


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, 'fp32_precision'), reason='torch before 2.9')
def test_tf32_by_the_newer_interface_of_torch_is_refused_in_one_line(tmp_path):
    torch.backends.cuda.matmul.fp32_precision = 'tf32'
    try:
        with pytest.raises(InputError, match='has set fp32_precision.*default_hooks.tf32.enabled=None'):
            Runner.from_cfg(load_config(str(CONFIG), work_dir=str(tmp_path))).train()
        Runner.from_cfg(
            load_config(
                str(CONFIG), work_dir=str(tmp_path / 'without'), cfg_options={'default_hooks.tf32.enabled': None}
            )
        ).train()
        assert torch.backends.cuda.matmul.fp32_precision == 'tf32'
    finally:
        torch.set_float32_matmul_precision('highest')
