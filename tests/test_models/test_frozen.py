"""Frozen parts do not change, and everything else trains (paper, Table 3)."""

import itertools

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from test_instructions import SCHEMES
from tiny import backbone, batch, segmentor, text_encoder
from torch import nn
from torch.utils.data import DataLoader

COMBINATIONS = [dict(image=image, text=text) for image, text in itertools.product([True, False], repeat=2)]
every_combination = pytest.mark.parametrize(
    'frozen', COMBINATIONS, ids=lambda frozen: ' '.join(part for part in frozen if frozen[part]) or 'none'
)
OPTIMIZERS = [
    dict(type='Adam', lr=1e-2, weight_decay=0.5),
    dict(type='AdamW', lr=1e-2, weight_decay=0.5),
    dict(type='SGD', lr=1e-2, weight_decay=0.5, momentum=0.9),
]
ALWAYS_TRAINED = ('backbone.instruction.', 'decode_head.text_proj.', 'decode_head.mask_decoder.transformer.')


def build(frozen: dict, scheme: str = 'L-DIT', **kwargs) -> nn.Module:
    """A tiny model with image encoder and text encoder frozen or not."""
    instruction = scheme and dict(SCHEMES[scheme], text_dims=16, **({'max_length': 8} if 'static' in scheme else {}))
    return segmentor(
        backbone=backbone(instruction=instruction, frozen=frozen['image'], **kwargs),
        text_encoder=text_encoder(frozen=frozen['text']),
    )


def is_frozen(name: str, frozen: dict) -> bool:
    """Whether a module or a weight belongs to a frozen part."""
    part, _, rest = name.partition('.')
    return (part == 'text_encoder' and frozen['text']) or (
        part == 'backbone' and frozen['image'] and not rest.startswith('instruction')
    )


def split(state: dict, frozen: dict) -> tuple[dict, dict]:
    """Copies of the frozen weights, and of the others."""
    parts = {}, {}
    for name, value in state.items():
        parts[not is_frozen(name, frozen)][name] = value.clone()
    return parts


def assert_equal(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    assert not [name for name, value in expected.items() if not torch.equal(actual[name], value)]


@every_combination
def test_frozen_parts_stay_in_evaluation_mode(frozen):
    model = build(frozen)
    for mode in (True, False, True):
        model.train(mode)
        for name, module in model.named_modules():
            assert module.training == (mode and not is_frozen(name, frozen)), name


@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=lambda optimizer: optimizer['type'])
@every_combination
def test_frozen_parts_have_no_optimizer_state_and_never_change(frozen, optimizer):
    model = build(frozen).train()
    still, moving = split(model.state_dict(), frozen)
    optim_wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(optimizer)))
    for _ in range(3):
        model.train_step(batch(), optim_wrapper)

    names = {parameter: name for name, parameter in model.named_parameters()}
    trained = {names[parameter] for parameter in optim_wrapper.optimizer.state}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not [name for name in trained if is_frozen(name, frozen)]
    still_after, moving_after = split(model.state_dict(), frozen)
    assert_equal(still_after, still)
    # Weight decay changes all weights of the optimizer, even if their gradient is zero.
    assert not [name for name in trained if torch.equal(moving_after[name], moving[name])]
    assert all(any(name.startswith(part) for name in trained) for part in ALWAYS_TRAINED)


@pytest.mark.parametrize('scheme', [None, *SCHEMES])
def test_every_scheme_trains_with_a_frozen_image_encoder(scheme):
    frozen = dict(image=True, text=True)
    for with_cp in (False, True):
        model = build(frozen, scheme, with_cp=with_cp).train()
        model(**model.data_preprocessor(batch(), training=True), mode='loss')['decode.loss_bce'].backward()
        with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert with_gradient == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        instruction = {name for name, _ in model.named_parameters() if name.startswith('backbone.instruction.')}
        assert instruction <= with_gradient and bool(instruction) == bool(scheme)


def test_the_moving_average_of_frozen_weights_does_not_change(tmp_path):
    frozen = dict(image=True, text=True)
    model = build(frozen)
    model.init_weights()
    still, moving = split(model.state_dict(), frozen)
    data = batch()
    items = [dict(inputs=image, data_samples=sample) for image, sample in zip(data['inputs'], data['data_samples'])]
    runner = Runner(
        model,
        str(tmp_path),
        train_dataloader=DataLoader(items, batch_size=2, collate_fn=pseudo_collate),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        log_level='ERROR',
        default_scope='mmseg',
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(OPTIMIZERS[1])),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[dict(type='EMAHook', momentum=0.5)],
        experiment_name=tmp_path.name,
    )
    runner.train()
    average = next(hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook))
    for weights in (model.state_dict(), average.state_dict()):
        still_after, moving_after = split(weights, frozen)
        assert_equal(still_after, still)
        assert not torch.equal(moving_after['decode_head.text_proj.weight'], moving['decode_head.text_proj.weight'])
