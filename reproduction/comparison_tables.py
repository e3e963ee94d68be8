"""The tables of a comparison in Markdown, from the JSON files of its finished runs."""

import json
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import mean

import numpy as np
from comparison_rows import ADDITIONS, ROWS, SAME_TRAINING, TABLES, name_of
from scipy.stats import t as student

from dit_sam.errors import InputError

SCORES = ('oIoU', 'mIoU', 'P@0.5', 'P@0.7', 'P@0.9', 'mIoU/attribute', 'mIoU/place', 'mIoU/relation')
# Of the hard data only.
NESTED = 'mIoU/nested'
# Of sentences that name one kind of attribute alone, not in all results.
ATTRIBUTES = ('mIoU/color', 'mIoU/size', 'mIoU/texture', 'mIoU/shape')
Results = dict[str, dict[int, dict]]


def read_results(folder: Path) -> Results:
    """The finished runs of a folder, by row and seed.

    Raises:
        InputError: There is none, a file is damaged, or it is of a row with another name.
    """
    results: Results = {row: {} for row in ROWS}
    for path in sorted(folder.glob('*_seed*.json')):
        scores = read_scores(path)
        if scores['row'] not in results or path.name != f'{name_of(scores["row"], scores["seed"])}.json':
            raise InputError(f'{path} is of no row that there is now: move it away')
        results[scores['row']][scores['seed']] = scores
    results = {row: found for row, found in results.items() if found}
    if not results:
        raise InputError(f'there is no result in {folder}: leave out --table, or name another --work-dir')
    return results


def read_scores(path: Path) -> dict:
    """The scores of a run.

    Raises:
        InputError: The file is damaged.
    """
    try:
        scores = json.loads(path.read_text())
        expected = ('seed', *SCORES, NESTED) if scores.get('hard') else ('seed', *SCORES)
        if isinstance(scores['row'], str) and all(isinstance(scores[key], (int, float)) for key in expected):
            return scores
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        pass
    raise InputError(f'{path} is damaged: delete it, and the next run scores that row again')


def scores_table(results: Results) -> str:
    """The scores of all rows: means over seeds, and the lowest and highest mIoU of several seeds."""
    hard = any(scores.get('hard') for found in results.values() for scores in found.values())
    columns = (*SCORES, NESTED) if hard else SCORES
    lines = []
    for row, found in results.items():
        cells = {key: f'{mean(scores[key] for scores in found.values()):.1f}' for key in columns}
        if len(found) > 1:
            ends = sorted(_mious(found).values())
            cells['mIoU'] += f' ({ends[0]:.1f} to {ends[-1]:.1f})'
        continued = any(scores.get('load_from') for scores in found.values())
        paper = None if continued else ROWS[row].paper
        figures = ('–', '–') if paper is None else [f'{figure:.2f}' for figure in paper]
        lines.append([row, str(len(found)), *cells.values(), *figures])
    return _markdown(['Scheme', 'Seeds', *columns, 'Paper: oIoU', 'mIoU'], lines)


def attributes_table(results: Results) -> str:
    """The mIoU of sentences that name one kind of attribute alone, the means over seeds; '' without any."""
    lines: list[list[str]] = []
    for row, found in results.items():
        scored = [scores for scores in found.values() if all(key in scores for key in ATTRIBUTES)]
        if scored:
            cells = [f'{mean(scores[key] for scores in scored):.1f}' for key in ATTRIBUTES]
            lines.append([row, str(len(scored)), *cells])
    return _markdown(['Scheme', 'Seeds', *ATTRIBUTES], lines)


def pairs_table(results: Results) -> str:
    """The pairs of rows that the paper orders, the better one first, with the differences of mIoU; '' without any.

    The difference is the mean of those with equal seeds. The order is reproduced or reversed if the difference exceeds
    the half width of its 95 % t-interval, and else within the seeds' spread. The half width is the larger of two: with
    the standard deviation of seeds pooled over all rows, and with that of the two rows alone, each with its own degrees
    of freedom. With one common seed the order is open; pairs without one are left out.
    """
    deviation, freedom = spread([list(_mious(found).values()) for found in results.values()])
    lines = []
    for table, groups in TABLES.items():
        for pair in (pair for group in groups for pair in combinations(group, 2)):
            if not results.keys() >= set(pair):
                continue
            better, worse = sorted(pair, key=lambda row: -(ROWS[row].paper or (0, 0))[1])
            ours, theirs = _with_equal_seeds(results[better], results[worse])
            if not ours:
                continue
            difference = mean(ours) - mean(theirs)
            share = 2 / len(ours)
            margin = max(_margin(deviation, freedom, share), _margin(*spread([ours, theirs]), share))
            if len(ours) < 2:
                verdict = 'open: one seed'
            elif abs(difference) <= margin:
                verdict = "within the seeds' spread"
            else:
                verdict = 'reproduced' if difference > 0 else '**reversed**'
            figures = [ROWS[row].paper or (0, 0) for row in (better, worse)]
            lines.append(
                [table, f'{better} > {worse}', f'{difference:+.1f}', f'{figures[0][1] - figures[1][1]:+.2f}', verdict]
            )
    return _markdown(['Paper', 'Order in the paper', 'mIoU here', 'in the paper', 'Verdict'], lines)


def additions_table(results: Results) -> str:
    """What each addition changes in the mIoU, with its interval of 95 %; '' without any.

    The change is the mean difference of the seeds that both rows have, each from one start. Its interval is a paired
    t-interval; the deviation is that of all trainings of this table from the sums of a row's and a seed's effect. Rows
    that share a training have an interval of their own, from the spread of their differences.
    """
    results = {row: {seed: one for seed, one in found.items() if _start(one)} for row, found in results.items()}
    trained = {row for pair in ADDITIONS.values() for row in pair if ROWS[row].weights_of is None}
    deviation, freedom = _deviation({row: _mious(results[row]) for row in sorted(trained & results.keys())})
    lines = []
    for name, (row, base) in ADDITIONS.items():
        ours, theirs = results.get(row, {}), results.get(base, {})
        seeds = sorted(seed for seed in ours.keys() & theirs.keys() if _start(ours[seed]) == _start(theirs[seed]))
        if not seeds:
            continue
        values = [ours[seed]['mIoU'] - theirs[seed]['mIoU'] for seed in seeds]
        if name in SAME_TRAINING:
            known, margin = len(values) > 1, _margin(*spread([values]), 1 / len(values))
        else:
            known, margin = freedom > 0 and len(values) > 1, _margin(deviation, freedom, 2 / len(values))
        change = mean(values)
        interval = f'{change - margin:+.1f} to {change + margin:+.1f}' if known else '–'
        each = ', '.join(f'{value:+.1f}' for value in values)
        lines.append([name, base, str(len(values)), f'{change:+.1f}', interval, each])
    return _markdown(['Addition', 'Added to', 'Seeds', 'mIoU', '95 %', 'Each seed'], lines)


def calibration_table(results: Results) -> str:
    """How well each row with an IoU head predicts the IoU, the means over seeds; '' without any."""
    lines = []
    for row, found in results.items():
        fits = [scores['calibration'] for scores in found.values() if 'calibration' in scores]
        if not fits:
            continue
        meant, nothing = ([fit[kind] for fit in fits] for kind in ('object', 'nothing'))
        lines.append(
            [
                row,
                str(len(fits)),
                _mean(meant, 'mean_difference', '.3f'),
                _mean(meant, 'rank_correlation', '.2f'),
                str(nothing[0]['sentences']),
                # The true IoU is 0.
                _mean(nothing, 'mean_difference', '.3f'),
            ]
        )
    head = ['Scheme', 'Seeds', 'Mean difference', 'Rank correlation', 'Sentences that mean nothing', 'Mean prediction']
    return _markdown(head, lines)


def words_table(results: Results) -> str:
    """How distinct the words are in each block, by word_shares.py of the analysis tools; '' without any.

    Runs that continue L-DIT are left out: what is added to it does not change how the text enters.
    """
    lines = []
    for row, found in results.items():
        noted = [scores.get('word_shares', []) for scores in found.values() if not scores.get('load_from')]
        shares = [blocks for blocks in noted if any(share is not None for share in blocks)]
        if shares:
            cells = ['–' if None in block else f'{mean(block):.2f}' for block in zip(*shares)]
            lines.append([row, str(len(shares)), *cells])
    blocks = max((len(line) - 2 for line in lines), default=0)
    return _markdown(['Scheme', 'Seeds', *(f'Block {block}' for block in range(blocks))], lines)


def spread(groups: list[list[float]]) -> tuple[float, int]:
    """The standard deviation within groups, pooled over all groups, and its degrees of freedom."""
    squares = sum((value - mean(group)) ** 2 for group in groups for value in group)
    freedom = sum(len(group) - 1 for group in groups if group)
    return sqrt(squares / freedom) if freedom else 0.0, freedom


def _margin(deviation: float, freedom: int, share: float) -> float:
    """Half the width of the 95 % t-interval of a value whose variance is `share` times that of a seed."""
    return float(student.ppf(0.975, freedom)) * deviation * sqrt(share) if freedom else 0.0


def _deviation(scores: dict[str, dict[int, float]]) -> tuple[float, int]:
    """The standard deviation of scores from sums of an effect of the row and one of the seed; degrees of freedom."""
    cells = [(row, seed) for row, found in scores.items() for seed in found]
    effects = [*scores, *dict.fromkeys(seed for _, seed in cells)]
    design = np.array([[float(effect in cell) for effect in effects] for cell in cells]).reshape(-1, len(effects))
    values = np.array([scores[row][seed] for row, seed in cells])
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    squares, freedom = float(((values - design @ fitted) ** 2).sum()), len(cells) - int(rank)
    return sqrt(squares / freedom) if freedom else 0.0, freedom


def _start(scores: dict) -> tuple:
    """The weights from which a run started; () for older results, which do not name them."""
    return (scores['pretrain'], scores.get('load_from'), scores.get('load_from_sha256')) if 'pretrain' in scores else ()


def _with_equal_seeds(first: dict[int, dict], second: dict[int, dict]) -> tuple[list[float], list[float]]:
    """The mIoUs of two rows, of the seeds that both have."""
    seeds = sorted(first.keys() & second.keys())
    return [first[seed]['mIoU'] for seed in seeds], [second[seed]['mIoU'] for seed in seeds]


def _mean(fits: list[dict], key: str, form: str) -> str:
    values = [fit[key] for fit in fits if fit[key] is not None]
    return format(mean(values), form) if values else '–'


def _mious(found: dict[int, dict]) -> dict[int, float]:
    return {seed: scores['mIoU'] for seed, scores in found.items()}


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ['---'] * len(head), *lines]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows) if lines else ''


TABLES_OF_RESULTS = (scores_table, attributes_table, words_table, pairs_table, additions_table, calibration_table)
