"""NaN is skipped, named, and ends the training before it is saved."""
from pathlib import Path

import pytest
import torch
from dit_sam.engine import GuardedOptimWrapper
from dit_sam.engine.hooks.finite_step_hook import names_of
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from mmengine.runner import Runner
from mmseg.structures import SegDataSample

CONFIG = str(Path(__file__).parents[1] / 'toy_config.py')


def wrapper(**kwargs) -> tuple[GuardedOptimWrapper, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.tensor([1., 2.]))
    return GuardedOptimWrapper(optimizer=torch.optim.SGD([weight], lr=0.5), **kwargs), weight


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1.)])
def test_a_step_that_is_not_finite_is_not_taken(bad, clip_grad):
    optim, weight = wrapper(clip_grad=clip_grad)
    optim.update_params((weight * torch.tensor([1., bad])).sum())
    assert weight.tolist() == [1, 2] and (optim.skipped, optim.skipped_in_a_row) == (1, 1)
    optim.update_params((weight * torch.tensor([0.6, 0.8])).sum())
    torch.testing.assert_close(weight.detach(), torch.tensor([1 - 0.3, 2 - 0.4]))
    assert (optim.skipped, optim.skipped_in_a_row) == (1, 0)


def run(tmp_path, bad_steps: set[int], limit: int, wrapper: str = 'GuardedOptimWrapper') -> Runner:
    cfg = load_config(CONFIG, work_dir=str(tmp_path), cfg_options={
        'default_hooks.finite_step.limit': limit, 'optim_wrapper.type': wrapper})
    runner = Runner.from_cfg(cfg)
    model, forward = runner.model, runner.model.forward
    counts = iter(range(1, 100))

    def spoilt(*args, mode='tensor', **kwargs):
        result = forward(*args, mode=mode, **kwargs)
        if mode == 'loss' and next(counts) in bad_steps:
            result['loss'] = result['loss'] * float('nan')
        return result

    model.forward = spoilt
    runner.train()
    return runner


def test_a_few_are_left_out_and_said(tmp_path):
    runner = run(tmp_path, {2, 3}, limit=2)
    assert runner.iter == 8 and runner.optim_wrapper.skipped == 2
    weights = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Step 3 was left out, its gradients are not finite (2 in a row, 2 in all)' in log


def test_too_many_end_the_training_before_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match=r'3 steps in a row had gradients that are not finite.*optim_wrapper'):
        run(tmp_path, {2, 3, 4}, limit=2)
    assert not list(tmp_path.glob('*.pth'))


def test_a_wrapper_without_a_guard_is_watched_too(tmp_path):
    with pytest.raises(InputError, match='3 steps in a row had gradients that are not finite'):
        run(tmp_path, {2}, limit=2, wrapper='OptimWrapper')


def test_items_are_called_by_image_and_sentence():
    sample = SegDataSample(metainfo=dict(img_path='a.jpg', text='the cat'))
    assert names_of(dict(data_samples=[sample])) == ['a.jpg "the cat"']
    assert names_of(None) == []
