"""reproduction/compare_schemes.py: each row has the scheme of its name, and the tables match the results."""

import argparse
import json
import re
import runpy
import sys
from itertools import combinations
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from comparison_plots import write_plots
from comparison_rows import ADDITIONS, ROWS, TABLES, name_of
from comparison_tables import (
    ATTRIBUTES,
    NESTED,
    SCORES,
    TABLES_OF_RESULTS,
    additions_table,
    attributes_table,
    calibration_table,
    pairs_table,
    read_results,
    scores_table,
)
from dump_scores import attribute_scores, calibration
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
WITH_ADDITION = (
    ', (frozen encoder|both encoders frozen|. sentences of an image|equal time|BCE alone|masked words|masked patches|'
    'mosaic|negatives|IoU head|EMA|tested larger)'
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


@pytest.mark.parametrize('row', [row for row in ROWS if 'sentences of an image' in row])
def test_rows_by_image_train_on_as_many_sentences(row: str) -> None:
    """Eight epochs of 561 steps of 32 references are 143,616 sentences."""
    loader = config(row).train_dataloader
    sentences = loader.dataset.sentences_per_image
    assert loader.batch_size * sentences == 32
    assert loader.collate_fn.type == 'flatten_collate'
    steps = 8 * ROWS[row].epochs * 6000 / loader.batch_size
    # With four sentences of an image, 11 of its epochs take the time of 6 / 0.55.
    share = 11 / 6 if 'equal time' in row else 1
    assert abs(steps * 32 / 143_616 / share - 1) < 0.005


def test_means_differ_from_the_row_that_they_are_compared_with() -> None:
    plain = config('L-DIT')
    assert config('L-DIT, BCE alone').model.decode_head.loss_decode[1].loss_weight == 0
    assert config('L-DIT, masked words').model.text_encoder.masked_tokens == 0.15
    for cfg, prob in ((plain, 0.0), (config('L-DIT, masked patches'), 0.5)):
        cutout = cfg.train_dataloader.dataset.pipeline[4]
        assert (cutout.type, cutout.prob) == ('RandomCutOut', prob)
    for cfg, prob in ((plain, 0.0), (config('L-DIT, mosaic'), 0.25)):
        assert cfg.model.data_preprocessor.batch_augments == [dict(type='BatchMosaic', prob=prob)]
    assert config('L-DIT, 4 sentences of an image, negatives').model.decode_head.negatives_weight == 0.5
    assert config('L-DIT, IoU head').model.decode_head.predict_iou
    assert config('L-DIT, EMA').default_hooks.ema == dict(type='EMAHook', momentum=0.002)
    larger = ROWS['L-DIT, tested larger']
    assert (larger.settings, larger.weights_of, 112 * larger.test_scale) == ((), 'L-DIT', 128)
    # Each pair differs in one setting, apart from the size in the test, a loader by image and EMA's two keys.
    differing = [len(set(ROWS[row].settings) ^ set(ROWS[base].settings)) for row, base in ADDITIONS.values()]
    assert differing == [1, 1, 1, 1, 3, 1, 1, 2, 0, 1, 4]


def test_runs_have_different_file_names() -> None:
    names = [name_of(row, seed) for row in ROWS for seed in (0, 1)]
    assert len(set(names)) == len(names)
    assert all(name.replace('_', '').replace('-', '').isalnum() for name in names)


def write_results(folder: Path, **mious: list[float]) -> dict:
    """Results of runs with the seeds 0, 1, ... that have one score; rows are named as files."""
    for row in ROWS:
        for seed, score in enumerate(mious.get(name_of(row, '').partition('_seed')[0].replace('-', '_'), ())):
            scores = dict(dict.fromkeys(SCORES, score), row=row, seed=seed)
            (folder / f'{name_of(row, seed)}.json').write_text(json.dumps(scores))
    return read_results(folder)


def test_table_is_the_mean_over_seeds(tmp_path: Path) -> None:
    table = scores_table(write_results(tmp_path, L_DIT=[40.0, 43.0])).splitlines()
    assert len(table) == 3
    # (40 + 43) / 2 = 41.5
    assert table[2].startswith('| L-DIT | 2 | 41.5 | 41.5 (40.0 to 43.0) | 41.5 |')
    assert table[2].endswith('| 71.98 | 74.73 |')


def test_sentences_with_one_kind_of_attribute_are_scored_apart(tmp_path: Path) -> None:
    """Colors (0.5 + 1) / 2; sentences with two kinds and those of places do not count."""
    lines = [
        ('the red thing', 'attribute', 0.5),
        ('white one', 'attribute', 1.0),
        ('the red star', 'attribute', 0.25),
        ('leftmost red thing', 'place', 0.125),
        ('the thing that is big', 'attribute', 0.75),
        ('the object with stripes', 'attribute', 0.625),
        ('star', 'attribute', 0.0),
    ]
    keys = ('sentence', 'kind', 'iou')
    dump = tmp_path / 'dump.jsonl'
    dump.write_text(''.join(json.dumps(dict(zip(keys, line))) + '\n' for line in lines))
    scores = attribute_scores(dump)
    assert scores == dict(zip(ATTRIBUTES, (75.0, 75.0, 62.5, 0.0)))
    dump.write_text(json.dumps(dict(zip(keys, lines[0]))))
    assert attribute_scores(dump) == {'mIoU/color': 50.0}
    results = write_results(tmp_path, L_DIT=[1.0, 2.0], E_DIT=[3.0])
    assert attributes_table(results) == ''
    results['L-DIT'][1] |= scores
    assert attributes_table(results).splitlines()[2:] == ['| L-DIT | 1 | 75.0 | 75.0 | 62.5 | 0.0 |']


def write_dump(path: Path, *lines: tuple) -> Path:
    """Lines with a score, an IoU, a sentence, and whether it means nothing."""
    keys = ('score', 'iou', 'sentence', 'no_target')
    path.write_text(''.join(json.dumps(dict(zip(keys, line))) + '\n' for line in lines))
    return path


def test_predicted_ious_are_compared_with_the_true_ones(tmp_path: Path) -> None:
    """|0.05 - 0.25|, |0.85 - 0.75|, |0.81 - 0.91| and |1 - 0.6| have the mean 0.8 / 4; the ranks 1 3 2 4 and 1 3 4 2.

    The rank correlation is 1 - 6 x (0 + 0 + 4 + 4) / (4 x 15) = 0.2.
    """
    dump = write_dump(
        tmp_path / 'dump.jsonl',
        *((score, iou, 'the red star', False) for score, iou in ((0.05, 0.25), (0.85, 0.75), (0.81, 0.91), (1.0, 0.6))),
    )
    generalized = write_dump(
        tmp_path / 'generalized.jsonl',
        (0.3, 0.0, 'the red star', True),
        (0.0, 1.0, 'the blue star', True),  # an empty mask
        (0.7, 0.8, 'the white star', False),
        (0.9, 0.0, 'both stars', True),  # a word that training has not
    )
    found = calibration(dump, generalized)
    tenths = [[1, 0.05, 0.25], *[None] * 7, [2, 0.83, 0.83], [1, 1.0, 0.6]]
    assert found['object'] == dict(sentences=4, mean_difference=0.2, rank_correlation=0.2, tenths=tenths)
    tenths = [[1, 0.0, 0.0], None, None, [1, 0.3, 0.0], *[None] * 6]
    assert found['nothing'] == dict(sentences=2, mean_difference=0.15, rank_correlation=None, tenths=tenths)
    neither = calibration(*[write_dump(tmp_path / 'one.jsonl', (0.5, 0.4, 'the red star', False))] * 2)

    results = write_results(tmp_path, L_DIT=[1.0], L_DIT_IoU_head=[1.0, 2.0])
    assert calibration_table(results) == ''
    for scores, difference in zip(results['L-DIT, IoU head'].values(), (0.2, 0.4)):
        scores['calibration'] = dict(found, object=dict(found['object'], mean_difference=difference))
    assert calibration_table(results).splitlines()[2:] == ['| L-DIT, IoU head | 2 | 0.300 | 0.20 | 2 | 0.150 |']
    results['L-DIT, IoU head'] = {0: dict(scores, calibration=neither)}
    assert calibration_table(results).splitlines()[2:] == ['| L-DIT, IoU head | 1 | 0.100 | – | 0 | – |']


def test_plots_are_written_of_what_there_is(tmp_path: Path) -> None:
    results = write_results(tmp_path, L_DIT=[1.0], E_DIT=[2.0, 3.0], L_DIT_IoU_head=[1.0])
    course = dict(training_iou=[10.0, 20.0, 30.0], epochs=2)
    for scores in results['E-DIT'].values():
        scores.update(course)
    results['L-DIT'][0].update(course, training_iou=[])  # too short for a line of the log
    folder = tmp_path / 'plots'
    assert write_plots(results, folder) == [folder / 'training.png']
    dump = write_dump(tmp_path / 'dump.jsonl', (0.5, 0.4, 'the red star', False), (0.6, 0.7, 'a star', True))
    results['L-DIT, IoU head'][0]['calibration'] = calibration(dump, dump)
    assert write_plots(results, folder) == [folder / 'training.png', folder / 'calibration.png']
    assert all(path.read_bytes().startswith(b'\x89PNG') for path in folder.iterdir())
    assert write_plots({'L-DIT, IoU head': {}}, tmp_path / 'none') == [] and not (tmp_path / 'none').exists()


def test_orders_of_the_paper_get_a_verdict(tmp_path: Path) -> None:
    """Standard deviation 1 with 3 degrees of freedom: differences count from 3.182 x 1 x sqrt(1/2 + 1/2) = 3.2 on."""
    apart = 0.5**0.5
    results = write_results(
        tmp_path,
        default=[50 - apart, 50 + apart],
        E_DIT=[53 - apart, 53 + apart],
        L_DIT=[49.7 - apart, 49.7 + apart],
        L_DIT_static=[40.0],
    )
    lines = pairs_table(results).splitlines()[2:]
    assert lines == [
        "| Table 1 | E-DIT > default | +3.0 | +8.05 | within the seeds' spread |",
        "| Table 1 | L-DIT > default | -0.3 | +11.32 | within the seeds' spread |",
        '| Table 1 | L-DIT > E-DIT | -3.3 | +3.27 | **reversed** |',
        '| Table 2 | L-DIT > L-DIT, static | +9.7 | +3.89 | open: one seed |',
    ]
    for scores in results['E-DIT'].values():
        scores['mIoU'] += 1
    assert pairs_table(results).splitlines()[2] == '| Table 1 | E-DIT > default | +4.0 | +8.05 | reproduced |'


def test_every_pair_of_the_papers_tables_is_named_once() -> None:
    groups = [group for groups in TABLES.values() for group in groups]
    assert all(ROWS[row].paper for group in groups for row in group)
    # Table 1 (tuned, each row against its frozen one, frozen), Table 2, Table 3 and Table 4.
    assert [len(group) for group in groups] == [5, 2, 2, 2, 5, 2, 2, 2, 3, 3, 2, 3]
    pairs = [frozenset(pair) for group in groups for pair in combinations(group, 2)]
    assert len(set(pairs)) == len(pairs) == 10 + 3 + 10 + 3 + 7 + 3


def test_means_are_compared_seed_by_seed(tmp_path: Path) -> None:
    """Two rows of the standard deviation sqrt(2), two degrees of freedom: 4.303 x sqrt(2) x sqrt(2 / 2) = 6.1."""
    results = write_results(tmp_path, L_DIT=[70.0, 72.0, 90.0], L_DIT_EMA=[70.5, 72.5], L_DIT_mosaic=[71.0, 73.0])
    del results['L-DIT'][2]
    assert additions_table(results).splitlines()[2:] == [
        '| mosaic | L-DIT | +1.0 | -5.1 to +7.1 | +1.0, +1.0 |',
        '| EMA of the weights | L-DIT | +0.5 | – | +0.5, +0.5 |',
    ]
    del results['L-DIT, mosaic'][1]
    assert '| mosaic | L-DIT | +1.0 | – | +1.0 |' in additions_table(results)


def test_the_documented_tables_are_those_of_the_results() -> None:
    page = (ROOT / 'docs' / 'reproduction.md').read_text()
    for folder in sorted((ROOT / 'reproduction' / 'results').iterdir()):
        results = read_results(folder)
        for table in (make(results) for make in TABLES_OF_RESULTS):
            assert table in page, f'docs/reproduction.md lacks this table of {folder.name}:\n{table}'
        assert len(list(folder.glob('*.json'))) == sum(map(len, results.values()))
    results = read_results(ROOT / 'reproduction' / 'results' / 'eight_epochs')
    for row in ('default', 'E-DIT', 'L-DIT'):
        cells = [f'{fmean(run[key] for run in results[row].values()):.1f}' for key in ('oIoU', 'mIoU', 'P@0.5')]
        assert f'| {row} | {" | ".join(cells)} |' in (ROOT / 'README.md').read_text()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--jobs', '0'], '--jobs must be more than 0, got 0'),
        (['--pretraining-epochs', '-1'], '--pretraining-epochs must be more than 0, got -1'),
        (['--lr', 'nan'], '--lr must be more than 0, got nan'),
        (['--size', '100'], '--size 100 is not a multiple of 16'),
        (['--seeds', '0', '-1'], '--seeds must be 0 or more, got -1'),
        (['--rows', 'zebra'], "invalid choice: 'zebra'"),
        (
            ['--work-dir', 'begun', '--hard'],
            'begun holds a comparison with hard=False, not True: name another --work-dir',
        ),
        (
            ['--work-dir', 'begun', '--epochs', '3'],
            'begun holds a comparison with epochs=2, not 3: name another --work-dir',
        ),
        (['--work-dir', 'afile'], 'afile cannot be written to: '),
        (['--plots', 'afile'], 'afile cannot be written to: '),
        (
            ['--work-dir', 'none', '--table'],
            'there is no result in none: leave out --table, or name another --work-dir',
        ),
        (['--work-dir', 'torn'], 'budget.json is damaged: delete it, and the next run writes it again'),
        (['--work-dir', 'others', '--table'], 'E_seed0.json is of no row that there is now: move it away'),
        (
            ['--work-dir', '.', '--table'],
            'L-DIT_seed0.json is damaged: delete it, and the next run scores that row again',
        ),
    ],
)
def test_bad_input_is_a_one_line_error_before_training(tmp_path, monkeypatch, capsys, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'afile').touch()
    (tmp_path / 'begun').mkdir()
    monkeypatch.setattr(sys, 'argv', [PATH])
    begun = TOOL['Comparison'](TOOL['parse_args']()).budget
    (tmp_path / 'begun' / 'budget.json').write_text(json.dumps(begun))
    (tmp_path / 'L-DIT_seed0.json').write_text('{"row": "L-')
    (tmp_path / 'torn').mkdir()
    (tmp_path / 'torn' / 'budget.json').write_text('{"ima')
    (tmp_path / 'others').mkdir()
    (tmp_path / 'others' / 'E_seed0.json').write_text(json.dumps(dict(dict.fromkeys(SCORES, 1.0), row='E', seed=0)))
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
    lines = [
        f'{{"step": {step}, "time": {step / 100}, "decode.mean_iou": {step}}}\n' for step in (100, 50, 100, 150)
    ] + ['{"step": 2']
    (tmp_path / 'L-DIT' / '1' / 'vis_data' / 'scalars.json').write_text(''.join(lines))
    comparison.note_commit(tmp_path / 'L-DIT')
    comparison.train = lambda *_, **__: tmp_path / 'L-DIT' / 'epoch_2.pth'
    comparison.score = lambda *_: dict.fromkeys((*SCORES, NESTED), 50.0)
    comparison.run_all()
    for data in (comparison.training, comparison.testing):
        assert json.loads((data / 'shapes' / 'summary.json').read_text())['arguments']['hard']
    assert (comparison.training.name, comparison.testing.name) == ('train_hard', 'test_hard')
    result = json.loads((tmp_path / 'L-DIT_seed0.json').read_text())
    assert (result['hard'], result['row'], result['test_size'], result['images']) == (True, 'L-DIT', 112, 2)
    assert result['bfloat16'] is False
    # Medians and means of 0.5, 1 and 1.5 seconds; 150 steps.
    assert (result['seconds_per_step'], result['training_minutes'], result['training_iou']) == (
        1.0,
        2.5,
        [50, 100, 150],
    )
    assert len(result['commit']) >= 7
    assert (
        scores_table(read_results(tmp_path))
        .splitlines()[0]
        .endswith('| mIoU/relation | mIoU/nested | Paper: oIoU | mIoU |')
    )


def test_a_failed_row_does_not_stop_the_others(tmp_path: Path, monkeypatch) -> None:
    """Rows that share their weights run one after the other, and not after the first one has failed."""
    rows = ['E-DIT', 'L-DIT', 'L-DIT, tested larger', 'default']
    monkeypatch.setattr(
        sys, 'argv', [PATH, '--work-dir', str(tmp_path), '--rows', *rows, '--seeds', '0', '--jobs', '2']
    )
    comparison, done = TOOL['Comparison'](TOOL['parse_args']()), []
    (tmp_path / 'text_encoder.safetensors').touch()
    comparison.data = comparison.train = lambda *_, **__: tmp_path

    def run(row: str, seed: int) -> None:
        if row == 'L-DIT':
            raise RuntimeError('it has failed')
        done.append(row)

    comparison.run = run
    with pytest.raises(RuntimeError, match='^it has failed$'):
        comparison.run_all()
    assert sorted(done) == ['E-DIT', 'default']
