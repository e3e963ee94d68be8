"""Conversion of foreign weights to ours and back, by the tools, and one-line errors for wrong files."""

import re
from collections.abc import Callable

import pytest
import torch
from converters import assert_equal, convert, hollow, randomize, save, untouched
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS
from processes import ROOT
from torch import nn

from dit_sam.models.weights import HUGGING_FACE_SAM, OURS, RELEASED_DIT, SAM
from dit_sam.models.weights.conversion import ARCHS, build_on_meta
from dit_sam.utils import load_strictly

LDIT_VIT_H = str(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-h.py')
CONFIG = """
sizes = dict(embed_dims=768, depth=2, num_heads=12, global_attn_indexes=(1, ))
bert = dict(model_type='bert', num_hidden_layers=1, intermediate_size=64, vocab_size=16, max_position_embeddings=24)
model = dict(
    type='ReferringSegmentor',
    text_encoder=dict(type='HuggingFaceTextEncoder', model=bert, tokenizer=['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'cat']),
    backbone=dict(type='DITViT', arch=sizes, instruction=dict(type='LayerWiseInstruction', text_dims=768),
                  windowed=False),
    decode_head=dict(type='SAMHead', text_dims=768))
"""


@pytest.fixture
def error_of(error_of) -> Callable:
    """`error_of(tool, *arguments)` returns the last line of a converter that fails."""
    return lambda tool, *arguments: error_of(f'model_converters/{tool}.py', *arguments)


def build_dit(layers: int = 1) -> nn.Module:
    """L-DIT of ViT-B's and BERT-base's width with few layers, `layers` of BERT."""
    config = Config.fromstring(CONFIG, '.py').model
    config.text_encoder.model.num_hidden_layers = layers
    return randomize(MODELS.build(config))


def released(model: nn.Module) -> dict:
    """A checkpoint of the model as the released code writes it."""
    weights = RELEASED_DIT.to_theirs(model.state_dict())
    weights.update(
        {
            name: torch.ones(2, 2)
            for name in (
                'query_embeddings.weight',
                'self_attention.in_proj_weight',
                'self_attention.in_proj_bias',
                'lang_encoder.bert.pooler.dense.weight',
                'lang_encoder.bert.embeddings.position_ids',
            )
        }
    )
    optimizer = torch.optim.Adam(model.decode_head.text_proj.parameters())
    model.decode_head.text_proj(torch.ones(1, 768)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 35], 0.2)
    return dict(
        epoch=39,
        lr=4e-6,
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        state_dict={f'module.{name}': value.clone() for name, value in weights.items()},
    )


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_released_dit(folder, capsys, suffix):
    model, config = build_dit(), folder / 'dit.py'
    checkpoint = released(model)
    torch.save(checkpoint, folder / 'det_best.pth')
    config.write_text(CONFIG)
    convert('dit2mmseg', folder / 'det_best.pth', folder / f'ours{suffix}', '--config', config)
    printed = capsys.readouterr().out
    assert (
        'dropped: query_embeddings* (1), self_attention.* (2), lang_encoder.bert.pooler.* (1), '
        'lang_encoder.bert.embeddings.position_ids* (1)'
    ) in printed
    # The authors' code reads padding as text, and this config masks it.
    assert printed.endswith(
        ', and this model reads text in another way: set model.text_encoder.mask_text_padding=False\n'
    )

    found = CheckpointLoader.load_checkpoint(str(folder / f'ours{suffix}'))
    assert_equal(found['state_dict'], model.state_dict())
    assert 'LayerWiseInstruction' in found['meta']['config']


@pytest.mark.parametrize(
    'layout, names',
    [
        (SAM, ('image_encoder.blocks.3.norm1.bias', 'mask_decoder.zebra', 'image_encoder.neck.0.weight')),
        (
            HUGGING_FACE_SAM,
            ('vision_encoder.layers.3.layer_norm1.bias', 'vision_encoder.zebra', 'vision_encoder.neck.conv1.weight'),
        ),
    ],
    ids=['segment_anything', 'transformers'],
)
@pytest.mark.parametrize('arch', ARCHS)
def test_misfits_are_listed_by_the_names_in_the_file(folder, error_of, layout, names, arch):
    weights, (missing, unknown, misshapen) = hollow(layout, arch), names
    del weights[missing]
    width = weights[misshapen].shape[1]
    weights.update({unknown: torch.zeros(1), misshapen: torch.zeros(2, 2)})
    path = save(folder, weights)
    assert error_of('sam2mmseg', path, folder / 'ours.pth') == (
        f"{path} does not fit SAM's ViT-{arch[0].upper()}: 1 weights missing: {missing}; 1 weights unknown: {unknown}; "
        f'1 weights of another shape (another arch?): {misshapen} is (2, 2), not (256, {width}, 1, 1)'
    )
    assert untouched(folder, 'theirs.pth')


def test_only_the_first_misfits_are_listed(folder, error_of):
    weights = {name: value for name, value in hollow(SAM).items() if 'rel_pos' not in name}
    line = error_of('sam2mmseg', save(folder, weights), folder / 'ours.pth')
    assert '24 weights missing: image_encoder.blocks.0.attn.rel_pos_h, ' in line
    assert line.count('rel_pos') == 5 and line.endswith(' and 19 more')


@pytest.mark.parametrize('arch, asked', [('huge', 'base'), ('base', 'large')])
@pytest.mark.parametrize(
    'tool, layout',
    [('sam2mmseg', SAM), ('sam2mmseg', HUGGING_FACE_SAM), ('dit2mmseg', RELEASED_DIT), ('mmseg2sam', OURS)],
    ids=lambda value: getattr(value, 'source', value),
)
def test_an_unexpected_arch_is_named(folder, error_of, tool, layout, arch, asked):
    path = save(folder, hollow(layout, arch))
    line = error_of(tool, path, folder / 'ours.pth', '--arch', asked)
    assert line.startswith(f'{path} is ViT-{arch[0].upper()} ({arch}), not {asked}')
    assert untouched(folder, 'theirs.pth')


def test_a_size_that_is_not_sams_is_named(folder, error_of):
    weights = {name: value for name, value in hollow(SAM).items() if '.blocks.1' not in name}
    line = error_of('sam2mmseg', save(folder, weights), folder / 'ours.pth')
    assert line.endswith(
        'is a ViT of 768 channels and 10 blocks; SAM has (channels × blocks) base 768 × 12, '
        'large 1024 × 24, huge 1280 × 32'
    )


def test_a_released_dit_loads_as_it_is(monkeypatch):
    """Tools and inferencer translate its names; what it has beyond the model is left out."""
    warnings = []
    monkeypatch.setattr('dit_sam.models.segmentors.referring_segmentor.log_warning', warnings.append)
    source, model = build_dit(layers=3), build_dit()
    for parameter in model.parameters():
        parameter.data.zero_()
    load_strictly(model, released(source))
    # Its text is the output of BERT's first layer, whose files have all layers.
    first = {
        name: value for name, value in source.state_dict().items() if not re.search(r'encoder\.layer\.[12]\.', name)
    }
    assert_equal(dict(model.state_dict()), first)
    load_strictly(source, released(source))
    model.text_encoder.mask_text_padding = False
    load_strictly(model, released(source))
    settings = [warning.partition('set model.text_encoder.')[2] for warning in warnings]
    assert settings == [
        'mask_text_padding=False',
        'model.num_hidden_layers=1 and model.text_encoder.mask_text_padding=False',
    ]


def test_without_a_config_a_released_dit_is_compared_with_l_dit_of_its_size(folder, error_of):
    """All of ldit_vit-h's names except one."""
    weights = RELEASED_DIT.to_theirs(build_on_meta(Config.fromfile(LDIT_VIT_H).model).state_dict())
    weights = {name: torch.zeros(1).expand(value.shape) for name, value in weights.items()}
    del weights['visual_encoder.probs.31.bias']
    path = save(folder, dict(epoch=1, state_dict=weights))
    line = error_of('dit2mmseg', path, folder / 'ours.pth')
    assert line.startswith(f'{path} does not fit ') and 'configs/dit_sam/ldit_vit-h.py (--config names ' in line
    assert line.endswith('): 1 weights missing: visual_encoder.probs.31.bias')


def test_a_released_dit_of_another_size_than_the_config_is_named(folder, error_of):
    path = save(folder, hollow(RELEASED_DIT))
    assert error_of('dit2mmseg', path, folder / 'ours.pth', '--config', LDIT_VIT_H) == (
        f"{path} is ViT-B (base), the config asks for arch='huge': change arch, or name weights of that size"
    )


def test_converting_to_sam_drops_text_and_refuses_more_decoder_blocks(folder, error_of, capsys):
    weights = {
        **hollow(OURS),
        'text_encoder.model.x': torch.zeros(1),
        'decode_head.text_proj.bias': torch.zeros(1),
        'backbone.instruction.static_tokens': torch.zeros(1),
    }
    convert('mmseg2sam', save(folder, dict(state_dict=weights)), folder / 'sam.pth')
    assert capsys.readouterr().out.endswith(
        'dropped: text_encoder.* (1), backbone.instruction.* (1), decode_head.text_proj.* (1)\n'
    )
    assert torch.load(folder / 'sam.pth', weights_only=True).keys() == hollow(SAM).keys()

    weights['decode_head.mask_decoder.transformer.layers.2.norm1.bias'] = torch.zeros(256)
    assert error_of('mmseg2sam', save(folder, weights), folder / 'other.pth').endswith(
        "SAM's ViT-B: 1 weights unknown: decode_head.mask_decoder.transformer.layers.2.norm1.bias"
    )


def test_lora_must_be_merged_before_converting_to_sam(folder, error_of):
    weights = {
        **hollow(OURS),
        'backbone.blocks.0.attn.qkv.lora_A.weight': torch.zeros(2, 768),
        'backbone.blocks.0.attn.qkv.lora_B.weight': torch.zeros(2304, 2),
    }
    line = error_of('mmseg2sam', save(folder, weights), folder / 'sam.pth')
    assert 'qkv.lora_B.weight; these are of LoRA: merge it by tools/model_converters/publish_model.py ' in line


@pytest.mark.parametrize(
    'tool, layout, message',
    [
        ('sam2mmseg', RELEASED_DIT, 'has the names of the released DIT: dit2mmseg.py converts'),
        ('sam2mmseg', OURS, 'has the names of dit_sam'),
        ('dit2mmseg', SAM, 'has the names of segment_anything: this converts the released DIT'),
        ('mmseg2sam', SAM, 'has the names of segment_anything: convert it to those of dit_sam first, with sam2mmseg'),
    ],
)
def test_a_file_for_another_converter_says_so(folder, error_of, tool, layout, message):
    assert message in error_of(tool, save(folder, hollow(layout)), folder / 'ours.pth')


@pytest.mark.parametrize('tool', ['sam2mmseg', 'dit2mmseg', 'mmseg2sam'])
def test_files_without_weights_are_one_line_errors(folder, error_of, tool):
    class Hostile:
        def __reduce__(self):
            return open, (str(folder / 'was_here'), 'w')

    save(folder, dict(state_dict=dict(), extra=Hostile()), 'hostile.pth')
    whole = save(folder, {'image_encoder.pos_embed': torch.zeros(1, 64, 64, 768)}, 'cut.pth').read_bytes()
    (folder / 'cut.pth').write_bytes(whole[: len(whole) // 2])
    save(folder, {'zebra.weight': torch.zeros(1)}, 'zebra.pth')
    save(folder, dict(epoch=1), 'empty.pth')
    for name, message in (
        ('hostile.pth', "was refused and nothing in it was run: it holds 'io.open'"),
        ('cut.pth', 'is damaged or not a checkpoint'),
        ('zebra.pth', 'holds neither SAM nor a model of dit_sam: none of its 1 names is known'),
        ('empty.pth', 'holds no weights'),
        ('none.pth', 'not found'),
    ):
        assert message in error_of(tool, folder / name, folder / 'ours.pth')
    assert untouched(folder, 'hostile.pth', 'cut.pth', 'zebra.pth', 'empty.pth')


@pytest.mark.parametrize('tool', ['sam2mmseg', 'dit2mmseg', 'mmseg2sam'])
def test_the_file_to_write_is_checked_first(folder, error_of, tool, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / 'theirs.pth').write_bytes(b'not read')
    assert 'is the file to read too' in error_of(tool, 'theirs.pth', folder / 'theirs.pth')
    assert 'must end in .safetensors or .pth' in error_of(tool, 'theirs.pth', 'ours.bin')
    (folder / 'ours.pth').mkdir()
    assert 'ours.pth is a folder' in error_of(tool, 'theirs.pth', 'ours.pth')
    assert (folder / 'theirs.pth').read_bytes() == b'not read'
