"""Learning rates that fall with the depth of the encoder's blocks."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from test_standalone import BN, HEAD, model

from dit_sam.errors import InputError


def rates(decay: dict, **kwargs) -> dict[str, tuple[float, float]]:
    """Rate and weight decay by parameter."""
    net = model(**kwargs)
    wrapper = build_optim_wrapper(
        net,
        dict(
            type='OptimWrapper',
            constructor='SAMLayerDecayConstructor',
            paramwise_cfg=decay,
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
        ),
    )
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }


def test_rates_fall_with_depth():
    """Three blocks: the last one has d, the first one d³, patches and position d⁴."""
    found = rates(dict(decay_rate=0.5))
    expected = {
        'backbone.pos_embed': 0.0625,
        'backbone.patch_embed.proj.weight': 0.0625,
        'backbone.blocks.0.mlp.lin1.weight': 0.125,
        'backbone.blocks.1.attn.rel_pos_h': 0.25,
        'backbone.blocks.2.attn.qkv.weight': 0.5,
        'backbone.neck.0.weight': 1.0,
        'backbone.instruction.projections.0.weight': 1.0,
        'decode_head.conv_seg.weight': 1.0,
    }
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)
    assert found['backbone.blocks.2.attn.qkv.weight'][1] == 0.05
    assert found['backbone.blocks.2.attn.qkv.bias'][1] == found['backbone.blocks.2.norm1.weight'][1] == 0.0
    assert not any(name.startswith('backbone.text_encoder.') for name in found)  # frozen
    assert not any(name.startswith('backbone.blocks.0.') for name in rates(dict(decay_rate=0.5), frozen_stages=1))
    assert rates(dict(layer_decay_rate=0.5, num_layers=12)) == found


def test_settings_without_effect_are_refused():
    """Such as those of the configs it may be added to."""
    with pytest.raises(InputError, match=r'paramwise_cfg.custom_keys has no effect.*_delete_=True, decay_rate'):
        rates(dict(decay_rate=0.5, custom_keys={'head': dict(lr_mult=10.0)}))


def test_an_optimizer_without_weight_decay_steps():
    net = model()
    wrapper = build_optim_wrapper(
        net,
        dict(
            constructor='SAMLayerDecayConstructor',
            paramwise_cfg=dict(decay_rate=0.5),
            optimizer=dict(type='SGD', lr=1.0),
        ),
    )
    weight = net.backbone.blocks[0].mlp.lin1.weight
    before, weight.grad = weight.detach().clone(), torch.ones_like(weight)
    wrapper.step()
    # Three blocks: d³ for the first.
    assert torch.allclose(weight, before - 0.125)


def test_impossible_layer_decay_is_an_error():
    with pytest.raises(InputError, match='paramwise_cfg lacks decay_rate'):
        rates(dict(num_layers=3))
    net = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='ResNet', depth=18, base_channels=8, norm_cfg=BN),
            decode_head=HEAD,
        )
    )
    with pytest.raises(InputError, match='is for the backbones SAMViT.*not ResNet'):
        build_optim_wrapper(
            net,
            dict(
                constructor='SAMLayerDecayConstructor',
                paramwise_cfg=dict(decay_rate=0.5),
                optimizer=dict(type='SGD', lr=1.0),
            ),
        )
