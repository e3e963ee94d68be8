"""SAM's image encoder, against segment_anything's and transformers'."""

import pytest
import torch
import torch.nn.functional as F
from tiny import ARCH, assert_close, assert_same_gradients, gradients, needs_transformers_5, noise, randomize
from torch import nn

from dit_sam.compat import import_sam_modeling
from dit_sam.models import SAMViT

TRANSFORMERS_NAMES = {
    'vision_encoder.': '',
    'neck.conv1.': 'neck.0.',
    'neck.layer_norm1.': 'neck.1.',
    'neck.conv2.': 'neck.2.',
    'neck.layer_norm2.': 'neck.3.',
    'layers.': 'blocks.',
    '.layer_norm1.': '.norm1.',
    '.layer_norm2.': '.norm2.',
    'patch_embed.projection.': 'patch_embed.proj.',
}


def build(grid=10, window_size=4, **kwargs) -> SAMViT:
    return randomize(SAMViT(ARCH, 8 * grid, 8, out_channels=16, window_size=window_size, **kwargs))


def segment_anything_like(model: SAMViT) -> nn.Module:
    """segment_anything's encoder with the model's weights, loaded by name without missing or extra ones."""
    sam = import_sam_modeling().ImageEncoderViT(
        8 * model.pos_embed.shape[1],
        8,
        3,
        ARCH['embed_dims'],
        ARCH['depth'],
        ARCH['num_heads'],
        out_chans=16,
        norm_layer=lambda dims: nn.LayerNorm(dims, eps=1e-6),
        use_rel_pos=True,
        window_size=(model.blocks[0].attn.rel_pos_h.shape[0] + 1) // 2,
        global_attn_indexes=ARCH['global_attn_indexes'],
    )
    sam.load_state_dict(model.state_dict(), strict=True)
    return sam


def compare(model: SAMViT, reference, images: torch.Tensor) -> None:
    """Outputs and gradients of the images."""
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    actual, expected = model(ours)[0], reference(theirs)
    assert_close(actual, expected)
    weights = noise(*expected.shape, seed=1)
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize('grid,window_size', [(8, 4), (10, 4), (20, 14)], ids=str)
def test_windowed_encoder_equals_segment_anything(grid, window_size):
    """Grids of 10 and 20 leave windows to pad: 3 · 4 − 10 and 2 · 14 − 20."""
    model = build(grid, window_size)
    sam = segment_anything_like(model)
    compare(model, sam, noise(2, 3, 8 * grid, 8 * grid))
    assert_same_gradients(gradients(model), gradients(sam))


def test_global_encoder_equals_segment_anything_without_windows():
    """The tables of windowed blocks are kept at 2 · 4 − 1 rows and resized; segment_anything does the same."""
    model = build(10, 4, windowed=False)
    sam = segment_anything_like(model)
    for block in sam.blocks:
        block.window_size = 0
    compare(model, sam, noise(2, 3, 80, 80))
    assert_same_gradients(gradients(model), gradients(sam))


@pytest.mark.parametrize('windowed', [True, False])
@pytest.mark.parametrize('grid', [(6, 6), (13, 9)], ids=str)
def test_other_sizes_equal_segment_anything_with_a_resized_map(grid, windowed):
    model = build(10, 4, windowed=windowed)
    sam = segment_anything_like(model)
    for block in sam.blocks:
        block.window_size = block.window_size if windowed else 0
    resized = F.interpolate(sam.pos_embed.permute(0, 3, 1, 2), size=grid, mode='bicubic', align_corners=False)
    sam.pos_embed = nn.Parameter(resized.permute(0, 2, 3, 1))
    compare(model, sam, noise(2, 3, 8 * grid[0], 8 * grid[1]))


@needs_transformers_5
def test_encoder_equals_transformers():
    from transformers import SamVisionConfig, SamVisionModel

    model = build(10, 4)
    reference = SamVisionModel(
        SamVisionConfig(
            hidden_size=ARCH['embed_dims'],
            num_hidden_layers=ARCH['depth'],
            num_attention_heads=ARCH['num_heads'],
            global_attn_indexes=list(ARCH['global_attn_indexes']),
            image_size=80,
            patch_size=8,
            window_size=4,
            output_channels=16,
            mlp_dim=4 * ARCH['embed_dims'],
        )
    )

    def ours(name: str) -> str:
        for theirs, replacement in TRANSFORMERS_NAMES.items():
            name = name.replace(theirs, replacement)
        return name

    weights = model.state_dict()
    reference.load_state_dict({name: weights.pop(ours(name)) for name in reference.state_dict()}, strict=True)
    assert not weights
    compare(model, lambda x: reference(x).last_hidden_state, noise(2, 3, 80, 80))
    assert_same_gradients(gradients(model), {ours(name): value for name, value in gradients(reference).items()})


def test_an_image_is_padded_to_whole_patches_with_zeros():
    model = build(10, 4)
    image = noise(1, 3, 41, 63)
    assert torch.equal(model(image)[0], model(F.pad(image, (0, 1, 0, 7)))[0])
    assert model(image)[0].shape == (1, 16, 6, 8)  # ⌈41 / 8⌉ × ⌈63 / 8⌉


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (9, 100), (80, 16)], ids=str)
@pytest.mark.parametrize('windowed', [True, False])
def test_any_size_runs(size, windowed):
    (features,) = build(10, 4, windowed=windowed)(noise(1, 3, *size))
    assert features.shape == (1, 16, -(-size[0] // 8), -(-size[1] // 8))
    assert features.isfinite().all()


def test_out_indices_give_the_tokens_of_those_blocks():
    image = noise(2, 3, 80, 80)
    model = build(out_indices=(0, 1, -1))
    tokens, maps = model.embed(image), []
    for block in model.blocks:
        tokens, _ = block(tokens)
        maps.append(model.neck(tokens.permute(0, 3, 1, 2)))
    outputs = model(image)
    assert [output.shape for output in outputs] == [(2, 16, 10, 10)] * 3
    for output, expected in zip(outputs, maps):
        assert_close(output, expected)


@pytest.mark.parametrize('out_channels', [0, 16])
def test_maps_are_contiguous_as_in_other_backbones(out_channels):
    """Heads of mmseg take views of them."""
    model = SAMViT(ARCH, 80, 8, out_channels=out_channels, window_size=4, out_indices=(0, 2))
    assert all(maps.is_contiguous() for maps in model(noise(2, 3, 80, 80)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_gradients_have_the_strides_of_their_weights(dtype):
    """Otherwise DistributedDataParallel warns, and copies in every step."""
    model = build()
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        model(noise(2, 3, 80, 80))[0].pow(2).sum().backward()
    assert {name for name, weight in model.named_parameters() if weight.grad.stride() != weight.stride()} == set()


def test_without_a_neck_it_returns_tokens():
    model = randomize(SAMViT(ARCH, 80, 8, out_channels=0, window_size=4, out_indices=(1, 2)))
    assert [output.shape for output in model(noise(1, 3, 80, 80))] == [(1, 24, 10, 10)] * 2
    assert not any(name.startswith('neck') for name in model.state_dict())


@pytest.mark.parametrize(
    'arch,sizes', [('tiny', (192, 6, 3)), ('base', (768, 12, 12)), ('large', (1024, 24, 16)), ('huge', (1280, 32, 16))]
)
def test_architectures_have_sams_names_and_shapes(arch, sizes):
    with torch.device('meta'):
        model = SAMViT(arch)
        embed_dims, depth, num_heads = sizes
        sam = import_sam_modeling().ImageEncoderViT(
            embed_dim=embed_dims,
            depth=depth,
            num_heads=num_heads,
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=[i for i in range(depth) if (i + 1) % (depth // (2 if arch == 'tiny' else 4)) == 0],
        )
    assert {name: value.shape for name, value in model.state_dict().items()} == {
        name: value.shape for name, value in sam.state_dict().items()
    }


def test_blocks_after_the_last_output_do_not_run_and_get_no_gradient():
    """Their weights stay, so that SAM's load, but must not make a distributed step wait for a gradient."""
    model, image = build(out_indices=(1,)), noise(1, 3, 80, 80)
    (expected,) = model(image)
    for parameter in model.blocks[2].parameters():
        nn.init.constant_(parameter, float('nan'))
    (output,) = model(image)
    assert torch.equal(output, expected)
    output.pow(2).sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert without == {name for name, _ in model.named_parameters() if name.startswith('blocks.2.')}


def test_frozen_encoder_gets_no_gradient_and_stays_in_evaluation_mode():
    model = build(frozen=True).train()
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model(noise(1, 3, 80, 80))[0].requires_grad


def test_checkpointed_activations_give_the_same_gradients():
    plain, checkpointed = build().train(), build(with_cp=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    for model in (plain, checkpointed):
        model(noise(2, 3, 80, 80))[0].pow(2).sum().backward()
    assert_same_gradients(gradients(checkpointed), gradients(plain), 1e-6)


def test_initial_weights_equal_vitdets():
    model = SAMViT(ARCH, 80, 8, out_channels=16)
    model.init_weights()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not model.blocks[0].attn.qkv.bias.any()
    assert not model.blocks[0].attn.rel_pos_h.any()


@pytest.mark.parametrize(
    'arch, message',
    [
        ('giant', r"arch='giant' must be one of \['base', 'huge', 'large', 'tiny'\]"),
        (dict(embed_dims=24, global_attn_indexes=()), r"missing: \['depth', 'num_heads'\], unknown: \[\]"),
        (dict(ARCH, mlp_ratio=3), r"must have the keys \['embed_dims', .*; missing: \[\], unknown: \['mlp_ratio'\]"),
        (dict(ARCH, global_attn_indexes=(1, 3, -1)), r'global_attn_indexes has \[3, -1\]; the blocks are 0 to 2'),
    ],
)
def test_an_impossible_architecture_is_an_error(arch, message):
    with pytest.raises(ValueError, match=message):
        SAMViT(arch)


@pytest.mark.parametrize('indices', [(), (2, 2), (2, -1)], ids=str)
def test_out_indices_name_each_block_once(indices):
    with pytest.raises(ValueError, match='must name at least one block, and none twice'):
        SAMViT(ARCH, 80, 8, out_indices=indices)


@pytest.mark.parametrize('index', [3, -4])
def test_an_index_beyond_the_blocks_is_an_error(index):
    with pytest.raises(ValueError, match=rf'out_indices has \[{index}\]; the blocks are 0 to 2'):
        SAMViT(ARCH, 80, 8, out_indices=(0, index))
