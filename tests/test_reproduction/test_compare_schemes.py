"""reproduction/compare_schemes.py: each row has the scheme of its name, and the table matches the results."""

import argparse
import json
import runpy
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
# Instruction, decoder blocks.
EXPECTED = {
    'default': ('NoneType', 2),
    'default, +2 layers': ('NoneType', 4),
    'default, +4 layers': ('NoneType', 6),
    'E-DIT': ('EndToEndInstruction', 2),
    'L-DIT': ('LayerWiseInstruction', 2),
    'E-DIT, static': ('EndToEndStaticInstruction', 2),
    'L-DIT, static': ('LayerWiseStaticInstruction', 2),
    'L-DIT, CrossAtt': ('CrossAttentionInstruction', 2),
    'L-DIT, CrossAtt+FFN': ('CrossAttentionInstruction', 2),
    'EVF-SAM': ('NoneType', 2),
    'L-DIT, BEiT-3': ('LayerWiseInstruction', 2),
}


def build(row: str):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    options = parser.parse_args(['--cfg-options', *TOOL['ROWS'][row][0]] if TOOL['ROWS'][row][0] else []).cfg_options
    cfg = Config.fromfile(ROOT / TOOL['config_of'](row))
    cfg.merge_from_dict(options)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('row', TOOL['ROWS'])
def test_row_matches_its_name(row: str) -> None:
    scheme, _, state = row.partition(', frozen')
    model = build(row)
    instruction, depth = EXPECTED[scheme]
    assert type(model.backbone.instruction).__name__ == instruction
    assert len(model.decode_head.mask_decoder.transformer.layers) == depth
    assert model.backbone.blocks[0].attn.qkv.weight.requires_grad == (state == '')
    assert any('ffn' in name for name, _ in model.backbone.named_parameters()) == ('FFN' in row)


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
