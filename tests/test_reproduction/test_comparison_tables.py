"""The tables and plots of the comparison match its results."""

import json
import re
from pathlib import Path
from statistics import fmean

import pytest
from comparison_plots import write_plots
from comparison_results import SCORES, read_results
from comparison_rows import ROWS, name_of
from comparison_tables import (
    ATTRIBUTES,
    TABLES_OF_RESULTS,
    additions_table,
    attributes_table,
    calibration_table,
    pairs_table,
    scores_table,
    spread,
    words_table,
)
from dump_scores import attribute_scores, calibration
from processes import ROOT
from scipy.stats import t as student


def write_results(folder: Path, **mious: list[float]) -> dict:
    """Results of runs with the seeds 0, 1, ... that have one score; rows are named as files."""
    for row in ROWS:
        for seed, score in enumerate(mious.get(name_of(row, '').partition('_seed')[0].replace('-', '_'), ())):
            scores = dict(dict.fromkeys(SCORES, score), row=row, seed=seed, pretrain=0)
            (folder / f'{name_of(row, seed)}.json').write_text(json.dumps(scores))
    return read_results(folder)


def test_table_is_the_mean_over_seeds(tmp_path: Path) -> None:
    table = scores_table(write_results(tmp_path, L_DIT=[40.0, 43.0])).splitlines()
    assert len(table) == 3
    # (40 + 43) / 2 = 41.5
    assert table[2].startswith('| L-DIT | 2 | 41.5 | 41.5 (40.0 to 43.0) | 41.5 |')
    assert table[2].endswith('| 71.98 | 74.73 |')


def write_lines(path: Path, keys: tuple[str, ...], *lines: tuple) -> Path:
    """A dump with these values of each sentence."""
    path.write_text(''.join(json.dumps(dict(zip(keys, line))) + '\n' for line in lines))
    return path


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
    dump, keys = tmp_path / 'dump.jsonl', ('sentence', 'kind', 'iou')
    scores = attribute_scores(write_lines(dump, keys, *lines))
    assert scores == dict(zip(ATTRIBUTES, (75.0, 75.0, 62.5, 0.0)))
    assert attribute_scores(write_lines(dump, keys, lines[0])) == {'mIoU/color': 50.0}
    results = write_results(tmp_path, L_DIT=[1.0, 2.0], E_DIT=[3.0])
    assert attributes_table(results) == ''
    results['L-DIT'][1] |= scores
    assert attributes_table(results).splitlines()[2:] == ['| L-DIT | 1 | 75.0 | 75.0 | 62.5 | 0.0 |']


PREDICTIONS = ('score', 'iou', 'sentence', 'no_target')


def test_predicted_ious_are_compared_with_the_true_ones(tmp_path: Path) -> None:
    """Of the sentences that mean nothing, those count that training has the words of."""
    dump = write_lines(tmp_path / 'dump.jsonl', PREDICTIONS, (0.05, 0.25, 'a', False), (0.85, 0.85, 'a', False))
    generalized = write_lines(
        tmp_path / 'generalized.jsonl',
        PREDICTIONS,
        (0.25, 0.0, 'the red star', True),
        (0.0, 1.0, 'the blue star', True),  # an empty mask
        (0.7, 0.8, 'the white star', False),
        (0.9, 0.0, 'both stars', True),  # a word that training has not
    )
    found = calibration(dump, generalized)
    assert [found[kind]['sentences'] for kind in ('object', 'nothing')] == [2, 2]
    assert found['object']['mean_difference'] == pytest.approx(0.1)
    assert found['object']['rank_correlation'] == pytest.approx(1)
    assert (found['nothing']['mean_difference'], found['nothing']['rank_correlation']) == (0.125, None)
    neither = calibration(*[write_lines(tmp_path / 'one.jsonl', PREDICTIONS, (0.5, 0.4, 'the red star', False))] * 2)

    results = write_results(tmp_path, L_DIT=[1.0], L_DIT_IoU_head=[1.0, 2.0])
    assert calibration_table(results) == ''
    for scores, difference in zip(results['L-DIT, IoU head'].values(), (0.2, 0.4)):
        scores['calibration'] = dict(found, object=dict(found['object'], mean_difference=difference))
    assert calibration_table(results).splitlines()[2:] == ['| L-DIT, IoU head | 2 | 0.300 | 1.00 | 2 | 0.125 |']
    results['L-DIT, IoU head'] = {0: dict(scores, calibration=neither)}
    assert calibration_table(results).splitlines()[2:] == ['| L-DIT, IoU head | 1 | 0.100 | – | 0 | – |']


def test_shares_of_words_are_means_over_seeds(tmp_path: Path) -> None:
    results = write_results(tmp_path, default=[1.0], L_DIT=[1.0], E_DIT=[2.0, 3.0, 4.0], L_DIT_from_block_2=[1.0])
    assert words_table(results) == ''
    results['default'][0]['word_shares'] = [None, None]
    results['E-DIT'][0]['word_shares'], results['E-DIT'][2]['word_shares'] = [1.0, 0.25], [0.5, 0.0]
    results['L-DIT from block 2'][0]['word_shares'] = [None, 1.0]
    results['L-DIT'][0].update(word_shares=[1.0, 1.0], load_from='L-DIT_seed{seed}/epoch_8.pth')
    assert words_table(results).splitlines() == [
        '| Scheme | Seeds | Block 0 | Block 1 |',
        '| --- | --- | --- | --- |',
        # (1 + 0.5) / 2 and (0.25 + 0) / 2
        '| E-DIT | 2 | 0.75 | 0.12 |',
        '| L-DIT from block 2 | 1 | – | 1.00 |',
    ]


def test_plots_are_written_of_what_there_is(tmp_path: Path) -> None:
    results = write_results(tmp_path, L_DIT=[1.0], E_DIT=[2.0, 3.0], L_DIT_IoU_head=[1.0])
    course = dict(training_iou=[10.0, 20.0, 30.0], epochs=2)
    for scores in results['E-DIT'].values():
        scores.update(course)
    results['L-DIT'][0].update(course, training_iou=[])  # too short for a line of the log
    folder = tmp_path / 'plots'
    assert write_plots(results, folder) == [folder / 'training.png']
    dump = write_lines(
        tmp_path / 'dump.jsonl', PREDICTIONS, (0.5, 0.4, 'the red star', False), (0.6, 0.7, 'a star', True)
    )
    results['L-DIT, IoU head'][0]['calibration'] = calibration(dump, dump)
    assert write_plots(results, folder) == [folder / 'training.png', folder / 'calibration.png']
    assert all(path.read_bytes().startswith(b'\x89PNG') for path in folder.iterdir())
    assert write_plots({'L-DIT, IoU head': {}}, tmp_path / 'none') == [] and not (tmp_path / 'none').exists()


def test_orders_of_the_paper_get_a_verdict(tmp_path: Path) -> None:
    """Differences count from the larger of two half widths on.

    Of all rows: the standard deviation 1 with 3 degrees of freedom, 3.182 x 1 x sqrt(2/2) = 3.2. Of two rows alone: 1
    with 2 degrees of freedom, 4.303 x 1 x sqrt(2/2) = 4.3. Where one of them has the standard deviation 3, Welch's has
    (9 + 1)² / (9² + 1²) = 1.22 degrees of freedom, for which t is 8.41, and 8.41 x sqrt((9 + 1) / 2) = 18.8; pooled
    with all rows it is 3.182 x sqrt((9 + 1 + 1) / 3) = 6.1.
    """
    apart = 0.5**0.5
    results = write_results(
        tmp_path,
        default=[50 - apart, 50 + apart],
        E_DIT=[54.2 - apart, 54.2 + apart],
        L_DIT=[49.8 - apart, 49.8 + apart, 99.0],
        L_DIT_static=[40.0],
    )
    del results['L-DIT'][2]
    lines = pairs_table(results).splitlines()[2:]
    assert lines == [
        "| Table 1 | E-DIT > default | +4.20 | +8.05 | within the seeds' spread |",
        "| Table 1 | L-DIT > default | -0.20 | +11.32 | within the seeds' spread |",
        '| Table 1 | L-DIT > E-DIT | -4.40 | +3.27 | **reversed** |',
        # (49.8 - apart) - 40
        '| Table 2 | L-DIT > L-DIT, static | +9.09 | +3.89 | open: one seed |',
    ]
    for scores in results['E-DIT'].values():
        scores['mIoU'] += 1
    assert pairs_table(results).splitlines()[2] == '| Table 1 | E-DIT > default | +5.20 | +8.05 | reproduced |'
    for sign, scores in zip((-1, 1), results['E-DIT'].values()):
        scores['mIoU'] = 68.5 + sign * 3 * apart
    assert "| Table 1 | E-DIT > default | +18.50 | +8.05 | within the seeds' spread |" in pairs_table(results)
    for scores in results['E-DIT'].values():
        scores['mIoU'] += 0.5
    assert '| Table 1 | E-DIT > default | +19.00 | +8.05 | reproduced |' in pairs_table(results)
    results['E-DIT'][7] = results['E-DIT'].pop(1)
    # (69 - 3 apart) - (50 - apart), of the seed 0 alone
    assert '| Table 1 | E-DIT > default | +17.59 | +8.05 | open: one seed |' in pairs_table(results)


def test_orders_of_unlike_runs_stay_open(tmp_path: Path) -> None:
    results = write_results(tmp_path, default=[50.0, 50.1], E_DIT=[69.0, 69.1])
    order = '| Table 1 | E-DIT > default | +19.00 | +8.05 |'
    assert f'{order} reproduced |' in pairs_table(results)
    first = results['E-DIT'][0]
    for key, value, verdict in (
        ('pretrain', 3, 'open: different starts'),
        ('load_from', 'L-DIT_seed{seed}/epoch_8.pth', 'open: different starts'),
        ('masks', 'centered', 'open: different masks'),
    ):
        results['E-DIT'][0] = first | {key: value}
        assert f'{order} {verdict} |' in pairs_table(results)
    results['E-DIT'][0] = first
    # Two older results may have two starts.
    runs = [results[row][0] for row in ('E-DIT', 'default')]
    for run in runs:
        del run['pretrain']
    assert f'{order} open: unknown start |' in pairs_table(results)
    for run in runs:
        run['pretrain'] = 0


def test_additions_are_compared_with_their_base(tmp_path: Path) -> None:
    """L-DIT and mosaic: each score is 0.25 from row + seed, s = sqrt(4 x 0.25² / 1) = 0.5 with one degree of freedom.

    Mosaic: 1.5; 12.706 x 0.5 x sqrt(2/2) = 6.4. EMA: 0.5 and 1.0 have the standard deviation 0.354; 12.706 x 0.354 /
    sqrt(2) = 3.2. With masked words: the residuals of L-DIT are -0.417 and 0.417, of the others 0.083 and 0.333, s =
    sqrt(0.583 / 2) = 0.540 with two degrees of freedom, 4.303 x 0.540 = 2.3.
    """
    results = write_results(
        tmp_path,
        L_DIT=[70.0, 72.0, 74.0],
        L_DIT_EMA=[70.5, 73.0],
        L_DIT_mosaic=[71.0, 74.0],
        L_DIT_low_threshold=[69.0, 71.5],  # of L-DIT's trainings, which count once
    )
    runs = [run for found in results.values() for run in found.values()]
    for run in runs:
        del run['pretrain']
    assert additions_table(results) == ''  # the start is not known
    for run in runs:
        run.update(pretrain=0, weights_sha256='of mosaic' if 'mosaic' in run['row'] else f'of seed {run["seed"]}')
    threshold = '| threshold 0.35 in place of 0.5 | L-DIT | 2 | -0.75 | -3.93 to +2.43 | -1.00, -0.50 |'
    mosaic = '| mosaic | L-DIT | 2 | +1.50 | -4.85 to +7.85 | +1.00, +2.00 |'
    ema = '| EMA of the weights | L-DIT | 2 | +0.75 | -2.43 to +3.93 | +0.50, +1.00 |'
    assert additions_table(results).splitlines()[2:] == [threshold, mosaic, ema]
    # If the average is of another training than the last weights, its interval is that of two trainings.
    results['L-DIT, EMA'][0]['weights_sha256'] = 'of another training'
    assert '| EMA of the weights | L-DIT | 2 | +0.75 | -5.60 to +7.10 |' in additions_table(results)
    results['L-DIT, EMA'][0]['weights_sha256'] = 'of seed 0'
    new = dict(weights_sha256='of masked words')
    words = {seed: dict(results['L-DIT'][seed], mIoU=mIoU, **new) for seed, mIoU in enumerate((70.0, 73.5))}
    assert additions_table(results | {'L-DIT, masked words': words}).splitlines()[2:] == [
        threshold,
        '| masked words | L-DIT | 2 | +0.75 | -1.57 to +3.07 | +0.00, +1.50 |',
        '| mosaic | L-DIT | 2 | +1.50 | -0.82 to +3.82 | +1.00, +2.00 |',
        ema,
    ]
    results['L-DIT, mosaic'][0]['load_from'] = 'L-DIT_seed0/epoch_8.pth'
    assert '| mosaic | L-DIT | 1 | +2.00 | – | +2.00 |' in additions_table(results)
    results['L-DIT, mosaic'][1]['load_from_sha256'] = 'ab'
    assert additions_table(results).splitlines()[2:] == [threshold, ema]
    for run in runs:
        run['load_from'] = 'L-DIT_seed{seed}/epoch_8.pth'
    assert 'Paper' not in scores_table(results)


def test_the_documented_tables_are_those_of_the_results() -> None:
    page, made = (ROOT / 'docs' / 'reproduction.md').read_text(), set()
    for folder in sorted((ROOT / 'reproduction' / 'results').iterdir()):
        results = read_results(folder)
        for table in filter(None, (make(results) for make in TABLES_OF_RESULTS)):
            assert table in page, f'docs/reproduction.md lacks this table of {folder.name}:\n{table}'
            made.add(table)
        assert len(list(folder.glob('*.json'))) == sum(map(len, results.values()))
        for row, runs in results.items():
            assert all(tuple(run['settings']) == ROWS[row].settings for run in runs.values()), row
            conditions = {tuple(run.get(key) for key in ('pretrain', 'load_from', 'masks')) for run in runs.values()}
            assert len(conditions) == 1, row
    assert {table.rstrip('\n') for table in re.findall(r'(?:^\|.*\n)+', page, re.MULTILINE)} == made
    results = read_results(ROOT / 'reproduction' / 'results' / 'eight_epochs')
    deviation, freedom = spread([[run['mIoU'] for run in found.values()] for found in results.values()])
    assert f's = {deviation:.1f} with {["no", "one", "two", "three", "four"][freedom]} degrees of freedom' in page
    # With two seeds, sqrt(2 / 2) = 1.
    assert f'must exceed {student.ppf(0.975, freedom) * deviation:.1f} points' in ' '.join(page.split())
    for row in ('default', 'E-DIT', 'L-DIT'):
        cells = [f'{fmean(run[key] for run in results[row].values()):.1f}' for key in ('oIoU', 'mIoU', 'P@0.5')]
        assert f'| {row} | {" | ".join(cells)} |' in (ROOT / 'README.md').read_text()
