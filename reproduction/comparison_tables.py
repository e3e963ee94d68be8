"""The tables of a comparison in Markdown, from the JSON files of its finished runs."""

import json
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import mean

from comparison_rows import LEVERS, ROWS, TABLES, name_of
from scipy.stats import t as student

from dit_sam.errors import InputError

SCORES = ('oIoU', 'mIoU', 'P@0.5', 'P@0.7', 'P@0.9', 'mIoU/attribute', 'mIoU/place', 'mIoU/relation')
# Of the hard data only.
NESTED = 'mIoU/nested'
Results = dict[str, dict[int, dict]]


def read_results(folder: Path) -> Results:
    """The finished runs of a folder, by row and seed.

    Raises:
        InputError: There is none, or a file is damaged.
    """
    results: Results = {}
    for row in ROWS:
        found = [read_scores(path) for path in sorted(folder.glob(f'{name_of(row, "*")}.json'))]
        if found:
            results[row] = {scores['seed']: scores for scores in found}
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
        if all(isinstance(scores[key], (int, float)) for key in expected):
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
        paper = ROWS[row].paper
        figures = ('–', '–') if paper is None else [f'{figure:.2f}' for figure in paper]
        lines.append([row, str(len(found)), *cells.values(), *figures])
    return _markdown(['Scheme', 'Seeds', *columns, 'Paper: oIoU', 'mIoU'], lines)


def pairs_table(results: Results) -> str:
    """The pairs of rows that the paper orders, the better one first, with the differences of mIoU; '' without any.

    The order is reproduced or reversed if the means differ by more than the half width of the interval of 95 % (a
    t-interval with the standard deviation of `spread`), and else within the seeds' spread. It is not claimed if one of
    the rows has a single seed.
    """
    deviation, freedom = spread([list(_mious(found).values()) for found in results.values()])
    lines = []
    for table, groups in TABLES.items():
        for pair in (pair for group in groups for pair in combinations(group, 2)):
            if not results.keys() >= set(pair):
                continue
            better, worse = sorted(pair, key=lambda row: -(ROWS[row].paper or (0, 0))[1])
            ours, theirs = (list(_mious(results[row]).values()) for row in (better, worse))
            difference, margin = mean(ours) - mean(theirs), sqrt(1 / len(ours) + 1 / len(theirs)) * deviation
            margin *= _quantile(freedom)
            if min(len(ours), len(theirs)) < 2:
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


def levers_table(results: Results) -> str:
    """What each mean adds to the mIoU: the mean of the differences with equal seeds, and its interval; '' without any.

    The interval of 95 % is a t-interval. Two seeds alone say little about the deviation of a difference, so it is that
    of `spread` over the differences of all means. With a single degree of freedom there is no useful interval.
    """
    differences = {}
    for lever, pair in LEVERS.items():
        with_it, without = (_mious(results.get(row, {})) for row in pair)
        seeds = sorted(with_it.keys() & without.keys())
        if seeds:
            differences[lever] = [with_it[seed] - without[seed] for seed in seeds]
    deviation, freedom = spread(list(differences.values()))
    lines = []
    for lever, values in differences.items():
        margin = _quantile(freedom) * deviation / sqrt(len(values))
        interval = f'{mean(values) - margin:+.1f} to {mean(values) + margin:+.1f}' if freedom > 1 else '–'
        each = ', '.join(f'{value:+.1f}' for value in values)
        lines.append([lever, LEVERS[lever][1], f'{mean(values):+.1f}', interval, each])
    return _markdown(['Means', 'Added to', 'mIoU', '95 %', 'Each seed'], lines)


def spread(groups: list[list[float]]) -> tuple[float, int]:
    """The standard deviation within groups, pooled over all groups, and its degrees of freedom."""
    squares = sum((value - mean(group)) ** 2 for group in groups for value in group)
    freedom = sum(len(group) - 1 for group in groups)
    return sqrt(squares / freedom) if freedom else 0.0, freedom


def _quantile(freedom: int) -> float:
    return float(student.ppf(0.975, freedom)) if freedom else 0.0


def _mious(found: dict[int, dict]) -> dict[int, float]:
    return {seed: scores['mIoU'] for seed, scores in found.items()}


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ['---'] * len(head), *lines]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows) if lines else ''
