"""Weights of another model are refused, in training and in testing."""

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.runner import Runner
from torch import nn

from dit_sam.mmengine_extras import SafeCheckpointHook
from dit_sam.utils import CheckpointError


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
def test_others_are_refused_by_name(tmp_path: Path, weights: dict, message: str) -> None:
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


def test_a_model_with_lora_says_how_to_begin_without(tmp_path: Path) -> None:
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
                match='these are of LoRA, which the config has and the checkpoint not: '
                '.* set default_hooks.checkpoint.strict_load=False',
            ):
                runner.load_checkpoint(str(tmp_path / 'weights.pth'))
        else:
            runner.load_checkpoint(str(tmp_path / 'weights.pth'))


def test_a_start_from_weights_that_fit_in_part_can_be_asked_for(tmp_path: Path) -> None:
    weights = dict(Model().state_dict(), other=torch.zeros(1))
    assert torch.equal(load(tmp_path, weights, strict=False).model.linear.weight, weights['linear.weight'])


@pytest.mark.parametrize('resume', [False, True])
def test_weights_are_compared_before_an_average_of_them_is_loaded(tmp_path: Path, resume: bool) -> None:
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
