"""LoRA on the text and on the image encoder."""

import copy
import sys

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner.checkpoint import load_state_dict
from mmseg.registry import MODELS
from processes import call_tool
from safetensors import safe_open
from safetensors.torch import load_file
from segment_anything.modeling import ImageEncoderViT
from tiny import assert_close, backbone, batch, gradients, randomize, segmentor, text_encoder
from torch import nn

from dit_sam.errors import InputError
from dit_sam.models.lora import lora_names, merge_lora

pytest.importorskip('peft', reason='LoRA needs peft')

IMAGE = dict(r=4, lora_alpha=8, target_modules=['qkv', 'proj', 'lin1', 'lin2'])
TEXT = dict(r=2, lora_alpha=8, target_modules=['query', 'value'])
OPTIMIZER = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2))


def parts(image: dict | None = IMAGE, text: dict | None = TEXT, **kwargs) -> dict:
    return dict(backbone=backbone(lora=image, **kwargs), text_encoder=text_encoder(lora=text))


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**model.data_preprocessor(batch()), mode='tensor')


def steps(model: nn.Module, wrapper, count: int) -> None:
    for step in range(count):
        torch.manual_seed(step)
        model.train().train_step(batch(), wrapper)


def test_lora_keeps_names_and_has_no_effect_at_the_start():
    plain, model = segmentor(), segmentor(seed=None, **parts())
    assert set(model.state_dict()) - set(plain.state_dict()) == set(lora_names(model))
    # 3 blocks with 4 layers, 2 with 2.
    assert len(lora_names(model)) == 2 * (3 * 4 + 2 * 2)
    assert 'backbone.blocks.0.attn.qkv.lora_A.weight' in lora_names(model)
    for load in (nn.Module.load_state_dict, load_state_dict):
        model = segmentor(seed=None, **parts())
        # A copy, as averaged weights are one.
        for each in (copy.deepcopy(model), model):
            load(each, plain.state_dict(), strict=False)
            assert_close(logits(each), logits(plain), 1e-6)


def test_init_weights_keeps_lora_without_effect():
    model = segmentor(seed=None, **parts())
    model.init_weights()
    weights = model.state_dict()
    assert not any(weights[name].any() for name in lora_names(model) if 'lora_B' in name)
    assert all(weights[name].any() for name in lora_names(model) if 'lora_A' in name)


@pytest.mark.parametrize('windowed', [False, True])
def test_lora_has_effect_and_equals_the_merged_model(windowed):
    model = segmentor(**parts(windowed=windowed))
    without = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in without.named_parameters():
            if 'lora_B' in name:
                parameter.zero_()
    merged = copy.deepcopy(model)
    assert merge_lora(merged) == 16
    expected = logits(model)
    assert (logits(without) - expected).abs().max() > 1e-2
    assert_close(logits(merged), expected, 1e-5)
    plain = segmentor(**parts(None, None, windowed=windowed))
    plain.load_state_dict(merged.state_dict())
    assert_close(logits(plain), expected, 1e-5)
    # W + 8 / 4 · B·A
    weights = {name.removeprefix('backbone.blocks.0.attn.qkv.'): value for name, value in model.state_dict().items()}
    assert_close(
        plain.backbone.blocks[0].attn.qkv.weight,
        weights['weight'] + 2 * weights['lora_B.weight'] @ weights['lora_A.weight'],
        1e-6,
    )


@pytest.mark.parametrize('with_cp', [False, True])
def test_gradients_equal_those_of_the_plain_formula(with_cp):
    """Through the blocks that recompute their activations; of A and B by the merged weight's gradient."""
    model = segmentor(**parts(with_cp=with_cp)).eval()
    plain = copy.deepcopy(model)
    merge_lora(plain)
    plain.backbone.requires_grad_(True)
    for each in (model, plain):
        each(**each.data_preprocessor(batch(), training=True), mode='loss')['decode.loss_bce'].backward()
    actual, layer = gradients(model), 'backbone.blocks.1.mlp.lin1'
    whole = gradients(plain)[f'{layer}.weight']
    weights = model.state_dict()
    assert_close(actual[f'{layer}.lora_B.default.weight'], 2 * whole @ weights[f'{layer}.lora_A.weight'].T, 1e-4)
    assert_close(actual[f'{layer}.lora_A.default.weight'], 2 * weights[f'{layer}.lora_B.weight'].T @ whole, 1e-4)


def test_dropout_is_the_same_in_the_recomputed_pass(monkeypatch):
    model = segmentor(**parts(dict(IMAGE, lora_dropout=0.5), None)).backbone.train()
    image = torch.rand(1, 3, 32, 32)

    def run() -> dict:
        model.zero_grad()
        torch.manual_seed(0)
        model(image)[0].pow(2).sum().backward()
        return gradients(model)

    recomputed = run()
    for module in ('attention', 'block'):
        monkeypatch.setattr(
            f'dit_sam.models.layers.{module}.checkpointed_linear', lambda linear, cheap, x: linear(cheap(x))
        )
    for name, gradient in run().items():
        assert_close(recomputed[name], gradient, 1e-5, name)


def test_only_lora_projections_and_head_train():
    model = segmentor(**parts())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrapper = build_optim_wrapper(model, OPTIMIZER)
    steps(model, wrapper, 2)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    own = {name for name in moved if name.startswith(('backbone.', 'text_encoder.'))}
    assert own == {name for name in before if name.startswith('backbone.instruction.')} | set(lora_names(model))
    assert 'decode_head.text_proj.weight' in moved
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert {names[parameter] for parameter in wrapper.optimizer.state} == {
        name for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def test_frozen_and_unused_blocks_keep_their_lora():
    model = segmentor(**parts(frozen_stages=1, out_indices=(1,)))
    trained = {
        name.split('.')[2]
        for name, parameter in model.named_parameters()
        if name.startswith('backbone.blocks.') and parameter.requires_grad
    }
    assert trained == {'1'}
    frozen = MODELS.build(text_encoder(lora=TEXT, frozen=True)).train()
    assert not any(parameter.requires_grad or frozen.training for parameter in frozen.parameters())


def test_the_sentence_cache_is_cleared_when_lora_changes():
    encoder = randomize(MODELS.build(text_encoder(lora=TEXT))).eval()
    with torch.no_grad():
        first = encoder(['cat']).tokens
        next(value for name, value in encoder.named_parameters() if 'lora_B' in name).mul_(2)
        assert not torch.equal(encoder(['cat']).tokens, first)


def test_resuming_is_exact(tmp_path):
    straight = segmentor(**parts())
    wrapper = build_optim_wrapper(straight, OPTIMIZER)
    steps(straight, wrapper, 2)
    torch.save(dict(model=straight.state_dict(), optimizer=wrapper.state_dict()), tmp_path / 'half.pth')
    steps(straight, wrapper, 2)
    resumed = segmentor(seed=1, **parts())
    saved = torch.load(tmp_path / 'half.pth')
    load_state_dict(resumed, saved['model'], strict=True)
    wrapper = build_optim_wrapper(resumed, OPTIMIZER)
    wrapper.load_state_dict(saved['optimizer'])
    steps(resumed, wrapper, 2)
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_sams_own_file_loads(tmp_path):
    sizes = dict(
        embed_dim=24,
        depth=3,
        num_heads=3,
        global_attn_indexes=(1,),
        img_size=32,
        patch_size=8,
        out_chans=16,
        window_size=3,
        use_rel_pos=True,
        qkv_bias=True,
    )
    sam = randomize(ImageEncoderViT(**sizes))
    torch.save({f'image_encoder.{name}': value for name, value in sam.state_dict().items()}, tmp_path / 'sam.pth')
    model = MODELS.build(backbone(lora=IMAGE, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'sam.pth'))))
    model.init_weights()
    for name, value in sam.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_the_published_file_is_merged(tmp_path):
    model = segmentor(**parts())
    config = dict(
        type='ReferringSegmentor',
        decode_head=dict(type='SAMHead', in_channels=16, text_dims=16, num_heads=2, mlp_dim=32, iou_head_hidden_dim=16),
        data_preprocessor=dict(type='ReferringDataPreProcessor', size=(32, 32)),
        **parts(),
    )
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=f'model = {config!r}')), tmp_path / 'last.pth')
    out = tmp_path / 'merged.safetensors'
    assert call_tool('model_converters/publish_model.py', tmp_path / 'last.pth', out, '--merge-lora') == 0
    assert 'lora' not in safe_open(out, 'pt').metadata()['config']
    plain = segmentor(seed=None)
    plain.load_state_dict(load_file(out))
    assert_close(logits(plain), logits(model), 1e-5)


@pytest.mark.parametrize(
    'lora, message',
    [
        (dict(r=4, target_modules=['blocks']), r"backbone.lora.target_modules: no layer is called 'blocks'.*'qkv'"),
        (dict(r=4, target_modules=['qkv', 'prj']), r"backbone.lora.target_modules: no layer is called 'prj'.*'lin1'"),
        (dict(r=4, rank=8, target_modules=['qkv']), "backbone.lora: .*'rank'"),
        (dict(r=0, target_modules=['qkv']), 'backbone.lora: .*positive integer'),
        (dict(r=4), 'backbone.lora: Please specify `target_modules`'),
        (dict(r=4, use_dora=True, target_modules=['qkv']), 'backbone.lora.use_dora=True: .* must start at no effect'),
        (dict(r=4, init_lora_weights='pissa', target_modules=['qkv']), "backbone.lora.init_lora_weights='pissa'"),
        (dict(r=4, init_lora_weights=False, target_modules=['qkv']), 'backbone.lora.init_lora_weights=False'),
    ],
)
def test_a_mistake_is_one_line(lora, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(backbone(lora=lora))


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(InputError, match=r'backbone.lora: LoRA needs peft: pip install "dit-sam\[lora\]"'):
        MODELS.build(backbone(lora=IMAGE))
