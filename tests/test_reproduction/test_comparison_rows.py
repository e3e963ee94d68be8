"""The rows of the comparison: each has the scheme of its name."""

import argparse
import re
from itertools import combinations

import pytest
import torch
from comparison_rows import ADDITIONS, AVERAGED, ROWS, TABLES, name_of
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from processes import ROOT
from safetensors.torch import load_file

# Instruction, decoder blocks, first block with text.
EXPECTED = {
    'default': ('NoneType', 2, None),
    'default, +2 layers': ('NoneType', 4, None),
    'default, +4 layers': ('NoneType', 6, None),
    'E-DIT': ('EndToEndInstruction', 2, 0),
    'L-DIT': ('LayerWiseInstruction', 2, 0),
    'L-DIT from block 2': ('LayerWiseInstruction', 2, 2),
    'L-DIT from block 3': ('LayerWiseInstruction', 2, 3),
    'L-DIT from block 4': ('LayerWiseInstruction', 2, 4),
    'E-DIT, static': ('EndToEndStaticInstruction', 2, 0),
    'L-DIT, static': ('LayerWiseStaticInstruction', 2, 0),
    'L-DIT, CrossAtt': ('CrossAttentionInstruction', 2, 0),
    'L-DIT, CrossAtt+FFN': ('CrossAttentionInstruction', 2, 0),
    'EVF-SAM': ('NoneType', 2, None),
    'L-DIT, BEiT-3': ('LayerWiseInstruction', 2, 0),
}
WITH_ADDITION = (
    ', (frozen encoder|both encoders frozen|. sentences of an image|equal time|BCE alone|masked words|masked patches|'
    'mosaic|normed image|negatives|low threshold|IoU head|EMA|tested larger)'
)


def config(row: str) -> Config:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    of_row = ROWS[row]
    options = parser.parse_args(['--cfg-options', *of_row.settings] if of_row.settings else []).cfg_options
    cfg = Config.fromfile(ROOT / of_row.config)
    cfg.merge_from_dict(options)
    return cfg


def build(row: str):
    cfg = config(row)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('row', ROWS)
def test_row_matches_its_name(row: str) -> None:
    scheme = re.sub(WITH_ADDITION, '', row)
    model = build(row)
    instruction, depth, start = EXPECTED[scheme]
    assert type(model.backbone.instruction).__name__ == instruction
    assert len(model.decode_head.mask_decoder.transformer.layers) == depth
    assert getattr(model.backbone.instruction, 'start', None) == start
    assert model.backbone.blocks[0].attn.qkv.weight.requires_grad == ('frozen' not in row)
    assert any(value.requires_grad for value in model.text_encoder.parameters()) == ('both encoders' not in row)
    assert any(value.requires_grad for value in model.backbone.parameters()) == (
        'frozen' not in row or instruction != 'NoneType'
    )
    assert any('ffn' in name for name, _ in model.backbone.named_parameters()) == ('FFN' in row)
    assert any('norm_visual' in name for name, _ in model.backbone.named_parameters()) == ('normed image' in row)


@pytest.mark.parametrize('row', [row for row in ROWS if 'sentences of an image' in row])
def test_rows_by_image_train_on_as_many_sentences(row: str) -> None:
    """Eight epochs of 561 steps of 32 references are 143,616 sentences."""
    loader = config(row).train_dataloader
    sentences = loader.dataset.sentences_per_image
    assert loader.batch_size * sentences == 32
    assert loader.collate_fn.type == 'flatten_collate'
    steps = 8 * ROWS[row].epochs * 6000 / loader.batch_size
    # Of four sentences of an image with text from block 4, 9 epochs of images take the time of 6 / 0.63, rounded down.
    share = 9 / 6 if 'equal time' in row else 1
    assert abs(steps * 32 / 143_616 / share - 1) < 0.005


def test_means_differ_from_the_row_that_they_are_compared_with() -> None:
    plain = config('L-DIT')
    assert config('L-DIT, BCE alone').model.decode_head.loss_decode[1].loss_weight == 0
    assert config('L-DIT, masked words').model.text_encoder.masked_tokens == 0.15
    for cfg, prob in ((plain, 0.0), (config('L-DIT, masked patches'), 0.5)):
        cutout = cfg.train_dataloader.dataset.pipeline[4]
        assert (cutout.type, cutout.prob) == ('RandomCutOut', prob)
    for cfg, prob in ((plain, 0.0), (config('L-DIT, mosaic'), 0.5)):
        assert cfg.model.data_preprocessor.batch_augments == [dict(type='BatchMosaic', prob=prob)]
    assert config('L-DIT, 4 sentences of an image, negatives').model.decode_head.negatives_weight == 0.5
    assert config('L-DIT, IoU head').model.decode_head.predict_iou
    average = ROWS['L-DIT, EMA']
    assert (average.settings, average.weights_of, average.averaged, AVERAGED) == ((), 'L-DIT', True, {'L-DIT'})
    for row, base in (('L-DIT, low threshold', 'L-DIT'), ('L-DIT, BCE alone, low threshold', 'L-DIT, BCE alone')):
        thresholds = [config(name).model.decode_head.threshold for name in (row, base)]
        assert (thresholds, ROWS[row].weights_of) == ([0.35, 0.5], base)
    larger = ROWS['L-DIT, tested larger']
    assert (larger.settings, larger.weights_of, 112 * larger.test_scale) == ((), 'L-DIT', 128)
    # Each pair differs in one setting, apart from those that are made of the same training and a loader by image.
    differing = [len(set(ROWS[row].settings) ^ set(ROWS[base].settings)) for row, base in ADDITIONS.values()]
    assert differing == [1, 1, 2, 1, 1, 1, 1, 3, 1, 4, 1, 0, 0, 1, 4]


def test_the_weights_of_the_repository_fit() -> None:
    start = ROOT / 'reproduction' / 'start'
    model = config('L-DIT').model
    model.backbone.img_size = 112
    for part, file in (('backbone', 'sam'), ('decode_head', 'sam'), ('text_encoder', 'text_encoder')):
        model[part].init_cfg.checkpoint = str(start / f'{file}.safetensors')
    init_default_scope('mmseg')
    built = MODELS.build(model)
    built.init_weights()
    stored = load_file(start / 'sam.safetensors')
    stored |= {f'text_encoder.{name}': value for name, value in load_file(start / 'text_encoder.safetensors').items()}
    found = built.state_dict()
    # Prompts of points and boxes are not in a model of text; the text's projections are not in SAM.
    new = ('backbone.instruction.', 'decode_head.text_proj.')
    assert {name for name in found if not name.startswith(new)} <= stored.keys()
    assert all(torch.equal(found[name], stored[name].float()) for name in found.keys() & stored.keys())


def test_runs_have_different_file_names() -> None:
    names = [name_of(row, seed) for row in ROWS for seed in (0, 1)]
    assert len(set(names)) == len(names)
    assert all(name.replace('_', '').replace('-', '').isalnum() for name in names)


def test_every_pair_of_the_papers_tables_is_named_once() -> None:
    groups = [group for groups in TABLES.values() for group in groups]
    assert all(ROWS[row].paper for group in groups for row in group)
    # Table 1 (tuned, each row against its frozen one, frozen), Table 2, Table 3 and Table 4.
    assert [len(group) for group in groups] == [5, 2, 2, 2, 5, 2, 2, 2, 3, 3, 2, 3]
    pairs = [frozenset(pair) for group in groups for pair in combinations(group, 2)]
    assert len(set(pairs)) == len(pairs) == 10 + 3 + 10 + 3 + 7 + 3
