"""The options of docs/training.md for large models: each has its effect, and a training with all of them resumes."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / 'test_models'))
from tiny import assert_close, backbone, batch, segmentor

from dit_sam.engine.step_settings import follow_batch, warn_of_short_training

ROOT = Path(__file__).parents[2]
LEAN = ROOT / 'configs' / 'dit_sam' / 'ldit_vit-h_lean.py'


def lean() -> Config:
    cfg = Config.fromfile(LEAN)
    init_default_scope(cfg.default_scope)
    return cfg


def test_every_parameter_gets_its_rate():
    """ViT-B on the meta device."""
    cfg = lean()
    cfg.merge_from_dict({'model.backbone.arch': 'base'})
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {parameter: group['lr'] for group in optimizer.param_groups for parameter in group['params']}
    # The instruction's width is different.
    assert len(optimizer.param_groups) == 3
    expected = {}
    for name, parameter in model.named_parameters():
        new = name.startswith(('backbone.instruction.', 'decode_head.'))
        expected[parameter] = pytest.approx(1e-4 if new else 1e-5)
        assert new or name.startswith(('backbone.', 'text_encoder.'))
    assert rates == {parameter: rate for parameter, rate in expected.items() if parameter.requires_grad}


def test_a_list_may_be_a_setting_of_a_group():
    settings = dict(
        constructor='MergedOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3),
        paramwise_cfg=dict(custom_keys={'decode_head.': dict(betas=[0.8, 0.9])}),
    )
    groups = build_optim_wrapper(segmentor(), settings).optimizer.param_groups
    assert sorted(tuple(group['betas']) for group in groups) == [(0.8, 0.9), (0.9, 0.999)]


def test_norm_decay_mult_reaches_all_norms():
    """Also those over the channels of maps, in the neck and in the mask decoder."""
    settings = dict(type='GuardedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1))
    model = segmentor()
    wrapper = build_optim_wrapper(model, dict(settings, paramwise_cfg=dict(norm_decay_mult=0.0)))
    decays = {p: group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    norms = {p for module in model.modules() if 'Norm' in type(module).__name__ for p in module.parameters()}
    maps = [model.backbone.neck[1].weight, model.decode_head.mask_decoder.output_upscaling[1].bias]
    assert norms.issuperset(maps)
    assert {p for p, decay in decays.items() if not decay} == norms & decays.keys()


def test_options_of_the_lean_config():
    cfg = lean()
    (ema,) = cfg.custom_hooks
    # 8 GPUs make the paper's batch, and the averaged weights decay per step as the paper's do.
    assert 8 * cfg.train_dataloader.batch_size * cfg.optim_wrapper.accumulative_counts == 64
    assert ema.interval % cfg.optim_wrapper.accumulative_counts == 0
    assert ema.momentum == pytest.approx(1 - 0.9997 ** (ema.interval / cfg.optim_wrapper.accumulative_counts), rel=2e-3)
    assert (ema.device, cfg.model.backbone.with_cp) == ('cpu', True)


def trained(with_cp: bool, batches: list[dict], **options) -> dict[str, torch.Tensor]:
    """The weights after the batches, by SGD with two rates. Adam would amplify gradients that are rounding errors."""
    torch.manual_seed(0)
    model = segmentor(backbone=backbone(with_cp=with_cp)).eval()  # without dropout
    optimizer = dict(type='SGD', lr=0.1, fused=options.pop('fused', False))
    paramwise = dict(custom_keys={'backbone.': dict(lr_mult=0.1), 'backbone.instruction.': dict(lr_mult=1.0)})
    wrapper = build_optim_wrapper(
        model, dict(dict(type='GuardedOptimWrapper', optimizer=optimizer, paramwise_cfg=paramwise), **options)
    )
    for each in batches:
        model.train_step(each, wrapper)
    return dict(model.state_dict())


def test_all_memory_options_together_give_the_same_step():
    """Two accumulated batches of one image equal one batch of both, if the images have the same size."""
    sizes, texts = [(32, 32)] * 2, ['the red box', 'big cat box']
    both = batch(sizes, texts)
    parts = [{key: values[i : i + 1] for key, values in batch(sizes, texts).items()} for i in range(2)]
    plain = trained(False, [both])
    options = dict(constructor='MergedOptimWrapperConstructor', fused=True, accumulative_counts=2)
    before, untouched = trained(True, [], **options), trained(True, parts[:1], **options)
    assert all(torch.equal(untouched[name], value) for name, value in before.items())  # no step yet
    for name, value in trained(True, parts, **options).items():
        assert_close(value, plain[name], 1e-5, name)


@pytest.mark.parametrize('accumulated, batch_size', [(1, 4), (2, 2), (4, 1)])
def test_the_learning_rate_is_scaled_by_what_a_step_sees(tmp_path, accumulated, batch_size):
    """Four items a step, and a base of eight: half of the rate, and averaged weights that change as slowly an item."""
    cfg = Config.fromfile(ROOT / 'tests' / 'toy_config.py')
    cfg.merge_from_dict({'optim_wrapper.accumulative_counts': accumulated, 'train_dataloader.batch_size': batch_size})
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=8)
    cfg.work_dir, cfg.experiment_name = str(tmp_path), f'scaled_{accumulated}'
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = []
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.19, interval=accumulated)]
    runner = Runner.from_cfg(cfg)
    for _ in range(2):
        follow_batch(runner)
    runner.train()
    (average,) = (hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook))
    assert average.momentum == pytest.approx(1 - 0.81**0.5) == pytest.approx(0.1)
    assert runner.cfg.custom_hooks[0].momentum == 0.19
    assert runner.optim_wrapper.get_lr()['lr'] == pytest.approx([cfg.optim_wrapper.optimizer.lr / 2])
    assert runner.cfg.auto_scale_lr.base_batch_size == 8


@pytest.mark.parametrize(
    'momentum, scheduler, epochs, expected',
    [
        # Two steps an epoch: 0.9^4 = 0.66, 0.5^4 = 0.06, 0.4^4 = 0.03.
        (0.1, [], 2, ['66% of the averaged weights of EMAHook are still those of the start', '5 / 4']),
        (0.5, [], 2, ['6% of the averaged weights']),
        (0.01, [], 1, ['set its momentum to about 1,']),
        (0.6, [dict(type='LinearLR', begin=0, end=2), dict(type='PolyLR', by_epoch=False, end=4)], 2, []),
        (
            0.6,
            [dict(type='LinearLR', end=3), dict(type='MultiStepLR', milestones=[1, 2])],
            2,
            [
                'param_scheduler.0.end=3 of LinearLR is beyond the 2 epochs of this training',
                'param_scheduler.1.milestones=[1, 2] of MultiStepLR is beyond the 2 epochs',
            ],
        ),
        (
            0.6,
            dict(type='PolyLR', by_epoch=False, end=5),
            2,
            ['param_scheduler.0.end=5 of PolyLR is beyond the 4 steps'],
        ),
    ],
)
def test_a_training_too_short_for_its_settings_is_logged(tmp_path, monkeypatch, momentum, scheduler, epochs, expected):
    cfg = Config.fromfile(ROOT / 'tests' / 'toy_config.py')
    cfg.work_dir, cfg.experiment_name = str(tmp_path), 'short'
    cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs = 4, epochs
    cfg.param_scheduler, cfg.custom_hooks = scheduler, [dict(type='EMAHook', momentum=momentum)]
    lines = []
    monkeypatch.setattr('dit_sam.engine.step_settings.log_warning', lines.append)
    warn_of_short_training(Runner.from_cfg(cfg))
    expected = [part.replace('5 / 4', 'set its momentum to about 1,') for part in expected]
    assert all(any(part in line for line in lines) for part in expected) and bool(lines) == bool(expected)


def test_weights_of_lora_train_at_the_full_rate():
    """The keys of dit_40e_groups.py are parts of their names too."""
    pytest.importorskip('peft', reason='peft is not installed: pip install "dit-sam[lora]"')
    lora = dict(r=2, lora_alpha=4, target_modules=['qkv'])
    model = segmentor(backbone=backbone(lora=lora))
    settings = lean().optim_wrapper
    settings.pop('accumulative_counts', None)
    groups = build_optim_wrapper(model, settings).optimizer.param_groups
    rates = {parameter: group['lr'] for group in groups for parameter in group['params']}
    found = {rates[parameter] for name, parameter in model.named_parameters() if '.lora_' in name}
    assert found == {settings.optimizer.lr}
    assert pytest.approx(0.1 * settings.optimizer.lr) in list(rates.values())


def test_all_together_in_bfloat16_learns():
    model = segmentor(backbone=backbone(with_cp=True)).train()
    cfg = lean().optim_wrapper
    cfg.update(type='GuardedOptimWrapper', dtype='bfloat16', accumulative_counts=2)
    cfg.optimizer.lr = 1e-2
    wrapper = build_optim_wrapper(model, cfg)
    losses = [model.train_step(batch(), wrapper)['loss'].item() for _ in range(12)]
    assert losses[-1] < losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def toy_run(folder: Path, resume: bool, device: str | None = 'cpu') -> Runner:
    cfg = Config.fromfile(ROOT / 'tests' / 'toy_config.py')
    cfg.merge_from_dict(
        {
            'train_cfg.type': 'ResumableTrainLoop',
            'train_cfg.max_epochs': 3,
            'optim_wrapper.type': 'GuardedOptimWrapper',
            'optim_wrapper.dtype': 'bfloat16',
            'optim_wrapper.accumulative_counts': 2,
            'optim_wrapper.constructor': 'MergedOptimWrapperConstructor',
            'optim_wrapper.paramwise_cfg': dict(custom_keys=dict(bias=dict(lr_mult=0.5))),
            'custom_hooks': [dict(type='EMAHook', momentum=0.1, interval=2, **({'device': device} if device else {}))],
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'resume': resume,
        }
    )
    del cfg.train_cfg['by_epoch']
    cfg.work_dir, cfg.experiment_name = str(folder), f'{folder.name}_{resume}_{device}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_training_with_all_options_resumes_exactly(tmp_path):
    toy_run(tmp_path / 'run', resume=False)
    whole = torch.load(tmp_path / 'run' / 'epoch_3.pth', weights_only=True)
    (tmp_path / 'run' / 'epoch_3.pth').unlink()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'epoch_2.pth'))
    runner = toy_run(tmp_path / 'run', resume=True)
    resumed = torch.load(tmp_path / 'run' / 'epoch_3.pth', weights_only=True)
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        torch.testing.assert_close(resumed[part], whole[part], rtol=0, atol=0)
    assert len(whole['optimizer']['param_groups']) == 2
    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
    assert {value.device.type for value in ema.ema_model.state_dict().values()} == {'cpu'}

    toy_run(tmp_path / 'on_device', resume=False, device=None)
    on_device = torch.load(tmp_path / 'on_device' / 'epoch_3.pth', weights_only=True)
    torch.testing.assert_close(whole['ema_state_dict'], on_device['ema_state_dict'], rtol=0, atol=0)
