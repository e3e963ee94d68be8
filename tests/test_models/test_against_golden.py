"""Comparison with tensors that the released DIT modules computed at small size, with their own weights."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from safetensors import safe_open
from tiny import assert_close
from torch import nn

from dit_sam.models.weights import RELEASED_DIT
from dit_sam.structures import TextFeatures

GOLDEN = Path(__file__).parents[2] / '..' / 'shared' / 'golden'
INSTRUCTIONS = {
    'default': None,
    'default_add2': None,
    'e2e': dict(type='EndToEndInstruction'),
    'e2e_token': dict(type='EndToEndStaticInstruction', max_length=7),
    'layer_wise': dict(type='LayerWiseInstruction'),
    'layer_wise_vith': dict(type='LayerWiseInstruction'),
    'token_layer_wise': dict(type='LayerWiseStaticInstruction', max_length=7),
}


def read(variant: str) -> tuple[dict, dict, dict, dict]:
    """Hyper-parameters; inputs and outputs; weights and norms of gradients under our names."""
    path = GOLDEN / f'{variant}.safetensors'
    if not path.is_file():
        pytest.skip(f'the golden tensors are not at {GOLDEN.resolve()}')
    with safe_open(path, 'pt') as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        sizes = {key: json.loads(value) for key, value in file.metadata().items() if key != 'variant'}

    def under(prefix: str) -> dict:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    return sizes, tensors, RELEASED_DIT.to_ours(under('state.')), RELEASED_DIT.to_ours(under('gradnorm.'))


def build(variant: str, sizes: dict) -> nn.ModuleDict:
    keys = ('embed_dim', 'depth', 'num_heads', 'global_attn_indexes')
    arch = dict(zip(('embed_dims', *keys[1:]), (sizes[key] for key in keys)))
    instruction = INSTRUCTIONS[variant] and dict(INSTRUCTIONS[variant], text_dims=sizes['text_dim'])
    backbone = dict(
        type='DITViT',
        arch=arch,
        instruction=instruction,
        img_size=sizes['pretrain_img_size'],
        patch_size=sizes['patch_size'],
        out_channels=sizes['out_chans'],
        window_size=sizes['window_size'],
        mlp_ratio=sizes['mlp_ratio'],
        windowed=False,
    )
    decode_head = dict(
        type='SAMHead',
        in_channels=sizes['out_chans'],
        text_dims=sizes['text_dim'],
        depth=sizes['decoder_depth'],
        num_heads=sizes['decoder_num_heads'],
        mlp_dim=sizes['decoder_mlp_dim'],
        iou_head_hidden_dim=sizes['out_chans'],
    )
    return nn.ModuleDict(dict(backbone=MODELS.build(backbone), decode_head=MODELS.build(decode_head))).eval()


@pytest.mark.parametrize('variant', INSTRUCTIONS)
def test_outputs_and_gradients_equal_the_released_modules(variant):
    sizes, golden, weights, norms = read(variant)
    model = build(variant, sizes)
    model.load_state_dict(weights, strict=True)

    words = golden['input.text']
    text = TextFeatures(words, torch.ones(words.shape[:2], dtype=torch.bool))
    (embedding,) = model.backbone(golden['input.image'], text=text)
    assert_close(embedding, golden['output.image_embedding'], 1e-4)
    low_res = model.decode_head((embedding,), text=text)
    assert_close(low_res, golden['output.low_res_logits'], 1e-4)
    logits = F.interpolate(low_res, scale_factor=4, mode='bilinear', align_corners=True)
    assert_close(logits, golden['output.logits'], 1e-4)
    loss = F.binary_cross_entropy_with_logits(logits, golden['input.mask'])
    assert loss.item() == pytest.approx(golden['output.loss'].item(), rel=1e-5)

    loss.backward()
    trained = {
        name: parameter.grad.norm().item() for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    assert trained.keys() <= norms.keys()
    for name, norm in norms.items():
        # Weights that are frozen here have zero gradients there.
        assert trained.get(name, 0.0) == pytest.approx(norm.item(), rel=1e-3, abs=1e-7), name
