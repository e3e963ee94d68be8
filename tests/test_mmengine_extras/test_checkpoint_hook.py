"""The content of checkpoints, and their comparison with the model that loads them."""

import io
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import Runner
from torch import nn

from dit_sam.errors import InputError
from dit_sam.mmengine_extras import SafeCheckpointHook
from dit_sam.mmengine_extras.checkpoint_hook import to_plain
from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints
from dit_sam.utils import CheckpointError

CONFIG = Path(__file__).parents[1] / 'toy_config.py'


def toy_runner(work_dir: Path, **changes) -> Runner:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'train_cfg.max_epochs': 3, 'default_hooks.checkpoint.max_keep_ckpts': -1, **changes})
    cfg.work_dir = str(work_dir)
    # Runners and message hubs are known by name: two of one name would share their history.
    cfg.experiment_name = f'{work_dir.name}_{cfg.resume}'
    return Runner.from_cfg(cfg)


def opens_safely(value) -> bool:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True)
    return True


def test_a_runner_resumes_from_its_own_checkpoint(tmp_path):
    toy_runner(tmp_path).train()
    uninterrupted = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    (tmp_path / 'epoch_3.pth').unlink()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))

    runner = toy_runner(tmp_path, resume=True)
    runner.train()
    resumed = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert runner.epoch == 3
    assert resumed['meta']['iter'] == uninterrupted['meta']['iter'] == 12
    assert resumed['param_schedulers'] == uninterrupted['param_schedulers']
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[part], uninterrupted[part], rtol=0, atol=0)
    best = torch.load(next(tmp_path.glob('best_mIoU_*.pth')), weights_only=True)
    assert isinstance(best['message_hub']['runtime_info']['best_score'], float)


@pytest.mark.parametrize('reader', [nullcontext, runners_map_checkpoints])
def test_a_config_in_a_checkpoint_is_not_run(tmp_path, reader):
    """mmengine's runner runs `meta['config']`, a program, when it resumes."""
    toy_runner(tmp_path, **{'train_cfg.max_epochs': 1}).train()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    checkpoint['meta']['config'] = f"open({str(tmp_path / 'run')!r}, 'w')"
    torch.save(checkpoint, tmp_path / 'hostile.pth')
    changes = {'train_cfg.max_epochs': 2, 'resume': True, 'load_from': str(tmp_path / 'hostile.pth')}
    with reader():
        toy_runner(tmp_path, **changes).train()
    assert (tmp_path / 'epoch_2.pth').is_file() and not (tmp_path / 'run').exists()


def test_ema_weights_are_kept(tmp_path):
    toy_runner(tmp_path, custom_hooks=[dict(type='EMAHook')]).train()
    checkpoint = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    assert torch.is_tensor(checkpoint['ema_state_dict']['module.linear.weight'])


@pytest.mark.parametrize(
    'value, plain',
    [
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (Path('a') / 'b', 'a/b'),
        (ConfigDict(palette=np.array([0, 255])), dict(palette=[0, 255])),
        ((np.float32(0.5), [np.str_('text')]), (0.5, ['text'])),
        (OrderedDict(a={np.int32(1)}), OrderedDict(a={1})),
    ],
)
def test_values_become_plain_python(value, plain):
    result = to_plain(value)
    assert result == plain
    assert type(result) is type(plain)
    assert opens_safely(result)


def test_tensors_are_not_copied():
    tensor = torch.rand(2)
    assert to_plain(dict(a=[tensor]))['a'][0] is tensor


def test_other_objects_become_none_and_are_named(monkeypatch):
    lines = []
    monkeypatch.setattr('dit_sam.mmengine_extras.checkpoint_hook.log_warning', lines.append)
    assert to_plain(dict(a=[1, print]), 'meta') == dict(a=[1, None])
    assert len(lines) == 1
    assert lines[0].startswith('meta.a[1] is saved as None')


class Model(BaseModel):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, *args, **kwargs) -> None:
        return None


def load(tmp_path: Path, weights: dict, strict: bool = True) -> Runner:
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    runner = Runner(Model(), str(tmp_path), custom_hooks=[SafeCheckpointHook(strict_load=strict)])
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    return runner


def test_fitting_weights_are_loaded(tmp_path: Path) -> None:
    weights = Model().state_dict()
    assert torch.equal(load(tmp_path, weights).model.linear.weight, weights['linear.weight'])
    # As DistributedDataParallel names them.
    wrapped = {f'module.{name}': value for name, value in weights.items()}
    assert torch.equal(load(tmp_path, wrapped).model.linear.weight, weights['linear.weight'])


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('key', ['state_dict', 'model', 'model_state_dict', None])
def test_weights_of_other_training_programs_are_found(tmp_path: Path, key: str | None, prefix: str) -> None:
    """Also by EMAHook, whose average a test uses."""
    weights = {prefix + name: value for name, value in Model().state_dict().items()}
    torch.save(weights if key is None else {key: weights, 'epoch': 3}, tmp_path / 'other.pth')
    runner = Runner(Model(), str(tmp_path), custom_hooks=[SafeCheckpointHook(), EMAHook()])
    runner.call_hook('before_run')
    runner.load_checkpoint(str(tmp_path / 'other.pth'))
    average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model.module
    for model in (runner.model, average):
        assert torch.equal(model.linear.weight, weights[f'{prefix}linear.weight'])


@pytest.mark.parametrize(
    'weights, message',
    [
        (dict(Model(3).state_dict()), r'linear.weight is \(1, 3\), not \(1, 2\)'),
        ({}, '2 weights missing: linear.bias, linear.weight'),
        (dict(Model().state_dict(), other=torch.zeros(1)), '1 weights unknown: other'),
        (
            dict(Model().state_dict(), **{'linear.lora_A.weight': torch.zeros(1)}),
            'these are of LoRA: merge it by tools/',
        ),
    ],
)
def test_unfitting_weights_are_refused_by_name(tmp_path: Path, weights: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=f'the checkpoint and the config belong to different models: .*{message}'):
        load(tmp_path, weights)


class Averaged(BaseTTAModel):
    def merge_preds(self, data_samples_list: list) -> None:
        return None


def test_weights_fit_a_model_that_averages_views(tmp_path: Path) -> None:
    weights = Model().state_dict()
    torch.save(weights, tmp_path / 'weights.pth')
    runner = Runner(Averaged(Model()), str(tmp_path), custom_hooks=[SafeCheckpointHook()])
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    assert torch.equal(runner.model.module.linear.weight, weights['linear.weight'])
    torch.save(Model(3).state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match=r'1 weights of another shape \(another arch\?\): linear.weight is'):
        runner.load_checkpoint(str(tmp_path / 'weights.pth'))


def test_a_model_with_lora_says_how_to_start_without(tmp_path: Path) -> None:
    pytest.importorskip('peft', reason='LoRA needs peft')
    from dit_sam.models.lora import add_lora

    model = Model()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    add_lora(model, dict(r=1, target_modules=['linear']), 'lora')
    for strict in (True, False):
        runner = Runner(model, str(tmp_path), custom_hooks=[SafeCheckpointHook(strict_load=strict)])
        if strict:
            with pytest.raises(
                CheckpointError,
                match='these are of LoRA, which the config has but the checkpoint does not: '
                '.* set default_hooks.checkpoint.strict_load=False',
            ):
                runner.load_checkpoint(str(tmp_path / 'weights.pth'))
        else:
            runner.load_checkpoint(str(tmp_path / 'weights.pth'))


def test_weights_that_fit_in_part_can_be_accepted(tmp_path: Path) -> None:
    weights = dict(Model().state_dict(), other=torch.zeros(1))
    assert torch.equal(load(tmp_path, weights, strict=False).model.linear.weight, weights['linear.weight'])


@pytest.mark.parametrize('resume', [False, True])
def test_weights_are_checked_before_the_averaged_ones_are_loaded(tmp_path: Path, resume: bool) -> None:
    """EMAHook would fail on another shape with an error of torch, or have the wrong weights already."""
    weights = Model(3).state_dict()
    ema = {f'module.{name}': value for name, value in weights.items()}
    checkpoint = dict(state_dict=weights, ema_state_dict=dict(ema, steps=torch.tensor(1)), meta={}, optimizer={})
    torch.save(checkpoint, tmp_path / 'weights.pth')
    hooks = dict(default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook')), custom_hooks=[dict(type='EMAHook')])
    source = dict(load_from=str(tmp_path / 'weights.pth'), resume=resume)
    runner = Runner(Model(), str(tmp_path), default_scope='mmseg', **source, **hooks)
    runner.call_hook('before_run')
    with pytest.raises(CheckpointError, match=r'linear.weight is \(1, 3\), not \(1, 2\)'):
        runner.load_or_resume()
    runner.call_hook('before_run')
    assert len([hook for hook in runner.hooks if hasattr(hook, 'hook')]) == 1


def test_a_best_score_that_the_validation_does_not_report_is_named(tmp_path):
    hook = SafeCheckpointHook(save_best='mIoU', rule='greater')
    runner = Runner(Model(), str(tmp_path), custom_hooks=[hook])
    with pytest.raises(
        InputError, match="checkpoint.save_best='mIoU' is not a score of this .* reported area, iou: set"
    ):
        hook.after_val_epoch(runner, dict(area=1.0, iou=2.0))
    # A validation without a training has nothing to save.
    hook.after_val_epoch(runner, dict(mIoU=1.0))
    assert not list(tmp_path.glob('*.pth'))
