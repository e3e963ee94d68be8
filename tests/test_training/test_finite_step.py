"""Steps with NaN are skipped and reported, and end the training before NaN is saved."""

import re
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from processes import run_ranks
from resume_project import write_config
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import GuardedOptimWrapper
from dit_sam.mmengine_extras.finite_step_hook import FiniteStepHook, names_of

CONFIG = str(Path(__file__).parents[1] / 'toy_config.py')


OPTIMIZERS = dict(
    adam=partial(torch.optim.Adam, lr=0.5, eps=1e-9),
    adamw=partial(torch.optim.AdamW, lr=0.5),
    adam_for_each=partial(torch.optim.Adam, lr=0.5, foreach=True),
    sgd=partial(torch.optim.SGD, lr=0.5),
    sgd_fused=partial(torch.optim.SGD, lr=0.5, fused=True),
    sgd_fused_momentum=partial(torch.optim.SGD, lr=0.5, momentum=0.9, fused=True),
)
FUSED = {'adam', 'adamw', 'sgd_fused', 'sgd_fused_momentum'}


def wrapper(optimizer: str = 'sgd', **kwargs) -> tuple[GuardedOptimWrapper, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    return GuardedOptimWrapper(optimizer=OPTIMIZERS[optimizer]([weight]), **kwargs), weight


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize(
    'clip_grad',
    [
        None,
        dict(max_norm=1.0),
        dict(max_norm=1.0, norm_type=2),
        dict(max_norm=1.0, norm_type='inf'),
        dict(type='value', clip_value=1.0),
    ],
)
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_a_non_finite_step_is_skipped(optimizer, clip_grad, bad):
    """It changes neither weights, nor moments, nor the number of steps; other steps are as in a training without it."""
    optim, weight = wrapper(optimizer, clip_grad=deepcopy(clip_grad))
    expected = torch.nn.Parameter(weight.detach().clone())
    plain = OptimWrapper(OPTIMIZERS[optimizer]([expected]), clip_grad=deepcopy(clip_grad))
    assert bool(optim.optimizer.param_groups[0]['fused']) == (optimizer in FUSED)
    for step, counts in zip((bad, 0.8, bad, bad, -2.0, 0.5), ((1, 1), (1, 0), (2, 1), (3, 2), (3, 0), (3, 0))):
        optim.update_params((weight * torch.tensor([0.6, step])).sum())
        assert (optim.skipped, optim.skipped_in_a_row) == counts
        if step is not bad:
            plain.update_params((expected * torch.tensor([0.6, step])).sum())
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-6)
    state, other = (each.optimizer.state_dict()['state'].get(0, {}) for each in (optim, plain))
    assert state.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6)


def test_a_checkpoint_of_the_other_kernel_resumes():
    """Adam's state from the plain kernel resumes in the fused one, and vice versa."""
    for first, second in (('adam_for_each', 'adam'), ('adam', 'adam_for_each')):
        (one, weight), (other, copy) = wrapper(first), wrapper(second)
        one.update_params((weight**2).sum())
        copy.data.copy_(weight.data)
        other.load_state_dict(deepcopy(one.state_dict()))
        assert bool(other.optimizer.param_groups[0]['fused']) == (second in FUSED)
        for optim, parameter in ((one, weight), (other, copy)):
            optim.update_params((parameter**2).sum())
        torch.testing.assert_close(copy, weight, rtol=1e-6, atol=1e-6)


def test_steps_between_two_log_lines_do_not_wait(tmp_path):
    """Tensors without content raise an error if a number in them is read."""
    cfg = load_config(CONFIG, work_dir=str(tmp_path))
    runner = Runner.from_cfg(cfg)
    _ = runner.train_loop  # builds it
    runner.call_hook('before_run')
    without_content = FakeTensorMode()
    with without_content:
        model = MODELS.build(cfg.model)
        runner.optim_wrapper = GuardedOptimWrapper(
            optimizer=torch.optim.Adam(model.parameters()), clip_grad=dict(max_norm=1.0)
        )
    runner.call_hook('before_train')
    with without_content:
        runner.call_hook('before_train_epoch')
        # The fourth is the last one of the epoch, and its line is written.
        for step in range(4):
            batch = dict(x=[torch.ones(1)] * 2, y=[torch.ones(1)] * 2, number=[0, 1])
            runner.call_hook('before_train_iter', batch_idx=step, data_batch=batch)
            outputs = model.train_step(batch, runner.optim_wrapper)
            with pytest.raises(DataDependentOutputException) if step == 3 else nullcontext():
                runner.call_hook('after_train_iter', batch_idx=step, data_batch=batch, outputs=outputs)
    runner.call_hook('after_train')


def run(tmp_path, bad_steps: set[int], limit: int, wrapper: str = 'GuardedOptimWrapper', **options) -> Runner:
    cfg = load_config(
        CONFIG,
        work_dir=str(tmp_path),
        cfg_options={'default_hooks.finite_step.limit': limit, 'optim_wrapper.type': wrapper, **options},
    )
    runner = Runner.from_cfg(cfg)
    model, forward = runner.model, runner.model.forward
    counts = iter(range(1, 100))

    def spoiled(*args, mode='tensor', **kwargs):
        result = forward(*args, mode=mode, **kwargs)
        if mode == 'loss' and next(counts) in bad_steps:
            result['loss'] = result['loss'] * float('nan')
        return result

    model.forward = spoiled
    runner.train()
    return runner


def test_a_few_skipped_steps_are_reported(tmp_path):
    runner = run(tmp_path, {2, 3}, limit=2)
    assert runner.iter == 8 and runner.optim_wrapper.skipped == 2
    weights = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Step 3 was skipped, because its gradients are not finite (2 in a row, 2 in all)' in log


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 3},
        # The best checkpoint of a validation, and that of a signal after the third step.
        {
            'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=8, val_interval=3),
            'default_hooks.checkpoint.interval': -1,
        },
        {'custom_hooks': [dict(type='EndHook', step=3, by='SIGTERM')]},
    ],
    ids=['epoch', 'iteration', 'validation', 'signal'],
)
def test_too_many_skipped_steps_end_the_training_before_a_checkpoint(tmp_path, options):
    with pytest.raises(InputError, match=r'3 steps in a row had gradients that are not finite.*optim_wrapper'):
        run(tmp_path, {1, 2, 3}, limit=2, **options)
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('interval, seen', [(2, 2), (3, 3), (50, 4)])
def test_reports_come_at_the_interval_and_at_the_end_of_an_epoch(tmp_path, interval, seen):
    with pytest.raises(InputError, match='1 steps in a row'):
        run(
            tmp_path,
            {2},
            limit=0,
            **{'default_hooks.finite_step.interval': interval, 'default_hooks.logger.interval': 1},
        )
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'Step 2 was skipped' in log and f'[{seen}/4]' not in log and f'[{seen - 1}/4]' in log


def test_a_wrapper_without_a_guard_is_checked_at_every_batch(tmp_path):
    """Its weights are NaN after the second step, and the training ends after the third."""
    with pytest.raises(InputError, match='2 steps in a row had gradients that are not finite'):
        run(tmp_path, {2}, limit=1, wrapper='OptimWrapper', **{'default_hooks.logger.interval': 1})
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert '[2/4]' in log and '[3/4]' not in log


def test_items_are_named_by_image_and_sentence():
    sample = SegDataSample(metainfo=dict(img_path='a.jpg', text='the cat'))
    without = SegDataSample(metainfo=dict(img_path='b.jpg'))
    assert names_of(dict(data_samples=[sample, without])) == ['a.jpg "the cat"', 'b.jpg ""']
    assert names_of(None) == []


def test_all_accumulated_batches_are_named(tmp_path):
    """The loss of the first of two batches is not finite, and the step follows the second."""
    cfg = load_config(CONFIG, work_dir=str(tmp_path))
    optim, weight = wrapper(accumulative_counts=2)
    runner, hook = Runner.from_cfg(cfg), FiniteStepHook(interval=1)
    runner.optim_wrapper = optim
    for name, factor in (('a', float('nan')), ('b', 1.0)):
        loss = factor * weight.sum()
        optim.update_params(loss)
        batch = dict(data_samples=[SegDataSample(metainfo=dict(img_path=f'{name}.jpg', text='cat'))])
        hook.after_train_iter(runner, 0, batch, dict(loss=loss))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'In the batch whose loss is not finite (rank 0): a.jpg "cat"\n' in log and weight.tolist() == [1, 2]


def test_nan_on_one_rank_skips_the_step_on_all(tmp_path):
    """Rank 1 has NaN in its loss, or infinity only in a gradient: both ranks skip the step, and finally stop."""
    config = write_config(tmp_path)
    spoil = dict(loss='[2,6,8]', gradient='[3,7]', rank=1)
    done = run_ranks(
        2,
        'train.py',
        config,
        '--work-dir',
        tmp_path,
        '--cfg-options',
        'train_dataloader.batch_size=2',
        'default_hooks.finite_step.limit=2',
        'custom_hooks.1.type=SpoilHook',
        *(f'custom_hooks.1.{key}={value}' for key, value in spoil.items()),
    )
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert [each.returncode for each in done] == [1, 1], log[-3000:]
    for each in done:
        assert 'error: 3 steps in a row had gradients that are not finite' in each.output
        assert 'Traceback' not in each.output
    reports = dict(re.findall(r'Step (\d+) was skipped, because its gradients are not finite \((.*)', log))
    counts = {step: report.split(')')[0] for step, report in reports.items()}
    assert counts == {
        '2': '1 in a row, 1 in all',
        '3': '2 in a row, 2 in all',
        '6': '1 in a row, 3 in all',
        '7': '2 in a row, 4 in all',
        '8': '3 in a row, 5 in all',
    }
    for step, names in re.findall(r'spoiled (\d+): (.*)', done[1].output):
        assert reports[step].endswith(f'In the batch whose loss is not finite (rank 1): {names}')
    # Two items of each rank.
    assert reports['3'].count('.png "') == 4 and 'In the batch: ' in reports['3']
    assert [path.name for path in tmp_path.glob('epoch_*.pth')] == ['epoch_1.pth']
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())
    assert {int(state['step']) for state in checkpoint['optimizer']['state'].values()} == {3}
