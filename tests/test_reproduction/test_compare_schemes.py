"""reproduction/compare_schemes.py: each row has the scheme of its name, and the table matches the results."""

import argparse
import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from processes import ROOT, call_tool

PATH = str(ROOT / 'reproduction' / 'compare_schemes.py')
TOOL = runpy.run_path(PATH)
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


def config(row: str) -> Config:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    of_row = TOOL['ROWS'][row]
    options = parser.parse_args(['--cfg-options', *of_row.settings] if of_row.settings else []).cfg_options
    cfg = Config.fromfile(ROOT / of_row.config)
    cfg.merge_from_dict(options)
    return cfg


def build(row: str):
    cfg = config(row)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('row', TOOL['ROWS'])
def test_row_matches_its_name(row: str) -> None:
    scheme = re.sub(', frozen encoder|, . sentences of an image|, equal time', '', row)
    model = build(row)
    instruction, depth, start = EXPECTED[scheme]
    assert type(model.backbone.instruction).__name__ == instruction
    assert len(model.decode_head.mask_decoder.transformer.layers) == depth
    assert getattr(model.backbone.instruction, 'start', None) == start
    assert model.backbone.blocks[0].attn.qkv.weight.requires_grad == ('frozen' not in row)
    assert any('ffn' in name for name, _ in model.backbone.named_parameters()) == ('FFN' in row)


@pytest.mark.parametrize('row', [row for row in TOOL['ROWS'] if 'sentences of an image' in row])
def test_rows_by_image_train_on_as_many_sentences(row: str) -> None:
    """Eight epochs of 561 steps of 32 references are 143,616 sentences."""
    loader = config(row).train_dataloader
    sentences = loader.dataset.sentences_per_image
    assert loader.batch_size * sentences == 32
    assert loader.collate_fn.type == 'flatten_collate'
    steps = 8 * TOOL['ROWS'][row].epochs * 6000 / loader.batch_size
    # With four sentences of an image, 11 of its epochs take the time of 6 / 0.55.
    share = 11 / 6 if 'equal time' in row else 1
    assert abs(steps * 32 / 143_616 / share - 1) < 0.005


def test_runs_have_different_file_names() -> None:
    names = [TOOL['name_of'](row, seed) for row in TOOL['ROWS'] for seed in (0, 1)]
    assert len(set(names)) == len(names)
    assert all(name.replace('_', '').replace('-', '').isalnum() for name in names)


def test_table_is_the_mean_over_seeds(tmp_path: Path) -> None:
    for seed, score in ((0, 40.0), (1, 43.0)):
        path = tmp_path / (TOOL['name_of']('L-DIT', seed) + '.json')
        path.write_text(json.dumps(dict(dict.fromkeys(TOOL['SCORES'], score), row='L-DIT', seed=seed)))
    table = TOOL['Comparison'](SimpleNamespace(work_dir=tmp_path)).table().splitlines()
    assert len(table) == 3
    # (40 + 43) / 2 = 41.5
    assert table[2].startswith('| L-DIT | 2 | 41.5 | 41.5 (40.0 to 43.0) | 41.5 |')
    assert table[2].endswith('| 71.98 | 74.73 |')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--jobs', '0'], '--jobs must be more than 0, got 0'),
        (['--pretraining-epochs', '-1'], '--pretraining-epochs must be more than 0, got -1'),
        (['--lr', 'nan'], '--lr must be more than 0, got nan'),
        (['--size', '100'], '--size 100 is not a multiple of 16'),
        (['--seeds', '0', '-1'], '--seeds must be 0 or more, got -1'),
        (['--rows', 'zebra'], "invalid choice: 'zebra'"),
        (['--work-dir', 'begun', '--hard'], 'begun holds a comparison on the ordinary data: name another --work-dir'),
        (['--work-dir', 'afile'], 'afile cannot be written to: '),
        (
            ['--work-dir', 'none', '--table'],
            'there is no result in none: leave out --table, or name another --work-dir',
        ),
        (
            ['--work-dir', '.', '--table'],
            'L-DIT_seed0.json is damaged: delete it, and the next run scores that row again',
        ),
    ],
)
def test_bad_input_is_a_one_line_error_before_training(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'afile').touch()
    (tmp_path / 'begun' / 'train').mkdir(parents=True)
    (tmp_path / 'L-DIT_seed0.json').write_text('{"row": "L-')
    assert call_tool(PATH, *arguments) in (1, 2)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_stopped_training_gives_no_result(tmp_path: Path) -> None:
    """A signal ends a training with status 0 and without its last checkpoint."""
    args = SimpleNamespace(work_dir=tmp_path, cfg_options=[], amp=False, size=112)
    comparison = TOOL['Comparison'](args)
    comparison.training = tmp_path
    comparison.call = lambda *_, **__: None
    with pytest.raises(RuntimeError, match='the training of L-DIT was stopped'):
        comparison.train('config.py', 'L-DIT', 2)


def test_hard_rows_train_on_the_hard_data_and_say_so(tmp_path: Path, monkeypatch) -> None:
    """The data and the results are real; the trainings and their scores are not."""
    monkeypatch.setattr(sys, 'argv', [PATH, '--work-dir', str(tmp_path), '--hard', '--rows', 'L-DIT', '--seeds', '0'])
    args = TOOL['parse_args']()
    args.images = args.test_images = 2
    comparison = TOOL['Comparison'](args)
    (tmp_path / 'text_encoder.safetensors').touch()
    (tmp_path / 'L-DIT' / '1' / 'vis_data').mkdir(parents=True)
    (tmp_path / 'L-DIT' / '1' / 'vis_data' / 'scalars.json').write_text('{"time": 1.0}')
    comparison.train = lambda *_, **__: tmp_path / 'L-DIT' / 'epoch_2.pth'
    comparison.score = lambda *_: dict.fromkeys((*TOOL['SCORES'], TOOL['NESTED']), 50.0)
    comparison.run_all()
    for data in (comparison.training, comparison.testing):
        assert json.loads((data / 'shapes' / 'summary.json').read_text())['arguments']['hard']
    assert (comparison.training.name, comparison.testing.name) == ('train_hard', 'test_hard')
    assert json.loads((tmp_path / 'L-DIT_seed0.json').read_text())['hard']
    assert comparison.table().splitlines()[0].endswith('| mIoU/relation | mIoU/nested | Paper: oIoU | mIoU |')
