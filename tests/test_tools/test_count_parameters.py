"""tools/analysis_tools/count_parameters.py: all numbers of a small model by hand, and known sizes of the big ones."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from processes import ROOT, call_tool

from dit_sam.compat import import_sam_modeling

TOOL = 'analysis_tools/count_parameters.py'

# L-DIT: 3 heads of 8 channels, 2 blocks, patches of 8; BERT and decoder 16 wide with 2 heads.
ARCH = dict(embed_dims=24, depth=2, num_heads=3, global_attn_indexes=(1,))
TEXT = dict(
    type='HuggingFaceTextEncoder',
    max_length=5,
    model=dict(
        model_type='bert',
        vocab_size=10,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
    ),
)
ENCODER = dict(
    type='DITViT',
    arch=ARCH,
    img_size=32,
    patch_size=8,
    out_channels=16,
    mlp_ratio=2,
    windowed=False,
    instruction=dict(type='LayerWiseInstruction', text_dims=16),
)
HEAD = dict(type='SAMHead', in_channels=16, text_dims=16, num_heads=2, mlp_dim=32, iou_head_hidden_dim=16)
MODEL = dict(
    type='ReferringSegmentor',
    text_encoder=TEXT,
    backbone=ENCODER,
    decode_head=HEAD,
    data_preprocessor=dict(type='ReferringDataPreProcessor', size=(32, 32)),
)
RESNET = dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN'))


@pytest.fixture
def write_config(tmp_path) -> Callable:
    """`write_config(**parts)` writes a config of the small model with other parts and returns its path."""

    def write(model: dict | None = None, **parts) -> str:
        model = dict(MODEL, **parts) if model is None else model
        path = tmp_path / 'small.py'
        Config(dict(custom_imports=dict(imports=['dit_sam']), default_scope='mmseg', model=model)).dump(path)
        return str(path)

    return write


def counts(tmp_path: Path, *arguments) -> dict:
    """What the tool writes as JSON."""
    assert call_tool(TOOL, *arguments, '--json', tmp_path / 'counts.json') == 0
    return json.loads((tmp_path / 'counts.json').read_text())


def attention(queries: int, keys: int, width: int, inner: int, heads: int, head_width: int) -> int:
    """Multiply-adds: the projections to `inner` and back, q·kᵀ and the sum of values in heads of `head_width`."""
    projections = 2 * queries * width * inner + 2 * keys * width * inner
    return projections + 2 * heads * queries * keys * head_width


def test_every_flop_of_a_small_model(write_config, tmp_path):
    """32 × 32 pixels are N = 16 visual tokens; L = 5 text tokens."""
    result = counts(tmp_path, write_config())

    bert = 2 * (attention(5, 5, 16, 16, 2, 8) + 2 * 5 * 16 * 32)
    # Relative position: every query with 4 rows and 4 columns, which widen the heads from 8 to 16 channels.
    block = attention(16, 16, 24, 24, 3, 16) + 3 * 16 * (4 + 4) * 8 + 2 * 16 * 24 * 48
    neck = 16 * 24 * 16 + 16 * 9 * 16 * 16
    encoder = 16 * (3 * 8 * 8) * 24 + 2 * block + neck
    # P_i, queries, keys and values of the text; 5 more keys for each query, whose mask needs no further channel.
    text_of_block = 5 * 24 * 24 + 3 * 5 * 24 * 24 + 2 * 3 * 16 * 5 * 16
    instruction = 5 * 16 * 24 + 2 * text_of_block
    # T = 10 tokens: IoU, 4 masks, text. Attention to and from the image is 8 wide: heads of 4, rounded up to 8.
    two_way = attention(10, 10, 16, 16, 2, 8) + 2 * attention(10, 16, 16, 8, 2, 8) + 2 * 10 * 16 * 32
    # The image's queries meet the tokens' keys: the projections are those of 16 queries and 10 keys, here the same.
    transformer = 2 * two_way + attention(10, 16, 16, 8, 2, 8)
    upscaling = 16 * 16 * 4 * 4 + 64 * 4 * 2 * 4  # to 4 channels on 8 × 8, to 2 on 16 × 16
    mask = 16 * 16 + 16 * 16 + 16 * 2 + 256 * 2
    # With the text's projection. The code of places is no product of matrices.
    decoder = 5 * 16 * 16 + transformer + upscaling + mask
    expected = {
        'text encoder': bert,
        'image encoder': encoder,
        'instruction': instruction,
        'mask decoder': decoder,
        'total': bert + encoder + instruction + decoder,
    }
    assert {part: result[part]['flops'] for part in expected} == {part: 2 * macs for part, macs in expected.items()}
    assert result['instruction']['parameters'] == 16 * 24 + 24 + 2 * (24 * 24 + 24)


def test_size_and_tokens_change_the_counts(write_config, tmp_path):
    """Twice the side has four times the patches; the patch embedding is linear in them, attention is more than that."""
    config = write_config()
    default, wide = counts(tmp_path, config), counts(tmp_path, config, '--size', 64, 32, '--tokens', 2)
    square = counts(tmp_path, config, '--size', 64)
    assert (default['size'], wide['size'], square['size']) == ([32, 32], [64, 32], [64, 64])
    assert wide['image encoder']['flops'] > 2 * default['image encoder']['flops']
    assert square['image encoder']['flops'] > 4 * default['image encoder']['flops']
    # 2 tokens in place of 5; 2 layers, each with q·kᵀ and the sum of values over 16 channels
    linear = 2 * 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert default['text encoder']['flops'] == 5 * linear + 2 * 2 * 2 * 5 * 5 * 16
    assert wide['text encoder']['flops'] == 2 * linear + 2 * 2 * 2 * 2 * 2 * 16
    assert [result['total']['parameters'] for result in (wide, square)] == [default['total']['parameters']] * 2


def test_table_is_in_millions_and_gflops(write_config, tmp_path, capsys):
    total = counts(tmp_path, write_config(), '--size', 1024)['total']
    row = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-2].strip('|').split('|')]
    assert row == [
        'total',
        *(f'{total[key] / 1e6:.3f}' for key in ('parameters', 'trainable', 'frozen')),
        f'{total["flops"] / 1e9:.2f}',
    ]


def test_frozen_and_trainable_parameters_are_separate(write_config, tmp_path):
    result = counts(
        tmp_path, write_config(), '--cfg-options', 'model.backbone.frozen=True', 'model.text_encoder.frozen=True'
    )
    total = result['total']
    assert result['image encoder']['trainable'] == result['text encoder']['trainable'] == 0
    assert result['instruction']['frozen'] == 0 < result['instruction']['trainable']
    for key in ('parameters', 'trainable', 'frozen', 'flops'):
        assert total[key] == sum(part[key] for name, part in result.items() if name not in ('size', 'total'))
    assert total['parameters'] == total['trainable'] + total['frozen']


def test_edit_counts_the_text_in_the_blocks(write_config, tmp_path):
    """Output projection and MLP of 5 tokens in the first of two blocks, and their attention; the last block's text is
    not used."""
    ldit = counts(tmp_path, write_config())['instruction']
    edit = counts(
        tmp_path, write_config(backbone=dict(ENCODER, instruction=dict(type='EndToEndInstruction', text_dims=16)))
    )['instruction']
    assert edit['parameters'] == ldit['parameters']
    of_block = 5 * 24 * 24 + 2 * 5 * 24 * 48 + 2 * 3 * 5 * (5 + 16) * 8
    assert edit['flops'] - ldit['flops'] == 2 * of_block


@pytest.mark.parametrize('size, encoder', [('b', 89.67), ('h', 637.03)])
def test_counts_equal_sams_berts_and_the_documentation(tmp_path, size, encoder):
    """In millions; SAM's decoder, counted on segment_anything's own, is 4.06."""
    sam = import_sam_modeling()
    with torch.device('meta'):
        own = [
            sam.MaskDecoder(transformer_dim=256, transformer=sam.TwoWayTransformer(2, 256, 8, 2048)),
            sam.PromptEncoder(256, (64, 64), (1024, 1024), 16),
        ]
    decoder = sum(parameter.numel() for module in own for parameter in module.parameters())
    assert decoder / 1e6 == pytest.approx(4.06, abs=0.01)
    result = counts(tmp_path, ROOT / 'configs' / 'dit_sam' / f'ldit_vit-{size}.py')
    assert result['mask decoder']['parameters'] == decoder + 768 * 256 + 256
    assert result['image encoder']['parameters'] / 1e6 == pytest.approx(encoder, abs=0.01)
    assert result['text encoder']['parameters'] / 1e6 == pytest.approx(108.89, abs=0.01)
    document = (ROOT / 'docs' / 'model_sizes.md').read_text()
    parts = ('text encoder', 'image encoder', 'instruction', 'mask decoder', 'total')
    sizes = [f'{result[part]["parameters"] / 1e6:.2f}' for part in parts]
    assert ' | '.join([f'| `ldit_vit-{size}`', *sizes, f'{result["total"]["trainable"] / 1e6:.2f} |']) in document
    gflops = {part: f'{result[part]["flops"] / 1e9:.1f}' for part in parts}
    assert (
        f'| `ldit_vit-{size}` | {gflops["image encoder"]} + {gflops["instruction"]} | {gflops["total"]} |' in document
    )


def test_mmsegs_backbones_and_segmentors_are_counted(write_config, tmp_path):
    foreign = counts(tmp_path, write_config(backbone=RESNET, decode_head=dict(HEAD, in_channels=64, in_index=-1)))
    assert foreign['instruction'] == dict(parameters=0, trainable=0, frozen=0, flops=0)
    assert foreign['image encoder']['flops'] > 0 < foreign['text encoder']['flops']
    head = dict(
        type='FCNHead',
        in_channels=64,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=2,
        norm_cfg=dict(type='BN'),
    )
    plain = counts(
        tmp_path,
        write_config(
            dict(
                type='EncoderDecoder',
                backbone=RESNET,
                decode_head=head,
                auxiliary_head=dict(head, in_channels=32, in_index=2),
            )
        ),
        '--size',
        32,
    )
    assert plain['image encoder'] == foreign['image encoder']
    assert plain['text encoder']['parameters'] == 0
    # 3 × 3 convolution of 32 to 8 channels, its norm, and 8 to 2 with bias
    assert plain['other'] == dict(parameters=2338, trainable=2338, frozen=0, flops=0)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['none.py'], 'config none.py not found'),
        (['empty.py'], 'config empty.py: it has no model; is it the config of a run'),
        (
            ['small.py', '--cfg-options', 'model.backbone.type=DITVit'],
            r"config small.py: model.backbone.type='DITVit' is not registered; did you mean DITViT\?",
        ),
        (['small.py', '--cfg-options', 'model.backbone.arch=giant'], "cannot be built: .*arch='giant' must be one of"),
        (
            ['small.py', '--cfg-options', 'model.backbone.depths=3'],
            'config small.py: model.backbone.depths is not an argument of DITViT',
        ),
        (['small.py', '--json', '.'], '. is a folder: name a file in it'),
        (['small.py', '--tokens', '6'], '--tokens 6: the text encoder cuts sentences to max_length=5'),
        (['small.py', '--cfg-options', 'model.decode_head.text_dims=24'], 'the head expects text_dims=24'),
    ],
)
def test_bad_input_is_one_line(write_config, tmp_path, monkeypatch, error_of, arguments, message):
    write_config()
    (tmp_path / 'empty.py').write_text('a = 1\n')
    monkeypatch.chdir(tmp_path)
    assert re.search(message, error_of(TOOL, *arguments, alone=True))


@pytest.mark.parametrize('arguments', [['--size', '0'], ['--size', '1', '2', '3'], ['--tokens', 'many']])
def test_numbers_are_checked(write_config, capsys, arguments):
    assert call_tool(TOOL, write_config(), *arguments) == 2
    assert arguments[0] in capsys.readouterr().err.splitlines()[-1]
