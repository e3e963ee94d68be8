"""The tables of a comparison in Markdown, from the JSON files of its finished runs."""

from itertools import combinations
from math import sqrt
from statistics import mean

import numpy as np
from comparison_results import NESTED, SCORES, SHIFTED, Results
from comparison_rows import ADDITIONS, ROWS, TABLES
from scipy.stats import t as student
from scipy.stats import ttest_ind

# Of sentences that name one kind of attribute alone, not in all results.
ATTRIBUTES = ('mIoU/color', 'mIoU/size', 'mIoU/texture', 'mIoU/shape')


def scores_table(results: Results) -> str:
    """The scores of all rows: means over seeds, and the lowest and highest mIoU of several seeds.

    Without the paper's figures for rows that continue L-DIT.
    """
    hard = any(scores.get('hard') for found in results.values() for scores in found.values())
    columns = (*SCORES, NESTED) if hard else SCORES
    continued = all(scores.get('load_from') for found in results.values() for scores in found.values())
    lines = []
    for row, found in results.items():
        cells = {key: f'{mean(scores[key] for scores in found.values()):.1f}' for key in columns}
        if len(found) > 1:
            ends = sorted(_mious(found).values())
            cells['mIoU'] += f' ({ends[0]:.1f} to {ends[-1]:.1f})'
        paper = ['–', '–'] if ROWS[row].paper is None else [f'{figure:.2f}' for figure in ROWS[row].paper]
        lines.append([row, str(len(found)), *cells.values(), *([] if continued else paper)])
    return _markdown(['Scheme', 'Seeds', *columns, *([] if continued else ['Paper: oIoU', 'mIoU'])], lines)


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
    the standard deviation of seeds pooled over all rows, and Welch's, with those of the two rows alone. The order is
    open with one common seed, or if the two rows start from different or unknown weights or have different training
    masks. Pairs without a common seed are left out.
    """
    deviation, freedom = spread([list(_mious(found).values()) for found in results.values()])
    lines = []
    for table, groups in TABLES.items():
        for pair in (pair for group in groups for pair in combinations(group, 2)):
            if not results.keys() >= set(pair):
                continue
            better, worse = sorted(pair, key=lambda row: -(ROWS[row].paper or (0, 0))[1])
            seeds = sorted(results[better].keys() & results[worse].keys())
            if not seeds:
                continue
            ours, theirs = ([results[row][seed]['mIoU'] for seed in seeds] for row in (better, worse))
            difference = mean(ours) - mean(theirs)
            margin = max(_margin(deviation, freedom, 2 / len(seeds)), _welch(ours, theirs))
            unlike = {_unlike(results[better][seed], results[worse][seed]) for seed in seeds} - {''}
            if unlike:
                verdict = f'open: {min(unlike)}'
            elif len(seeds) < 2:
                verdict = 'open: one seed'
            elif abs(difference) <= margin:
                verdict = "within the seeds' spread"
            else:
                verdict = 'reproduced' if difference > 0 else '**reversed**'
            figures = [ROWS[row].paper or (0, 0) for row in (better, worse)]
            lines.append(
                [table, f'{better} > {worse}', _signed(difference), f'{figures[0][1] - figures[1][1]:+.2f}', verdict]
            )
    return _markdown(['Paper', 'Order in the paper', 'mIoU here', 'in the paper', 'Verdict'], lines)


def additions_table(results: Results) -> str:
    """What each addition changes in the mIoU, with its interval of 95 %; '' without any.

    The change is the mean difference of the seeds that both rows have, each from one start and with the same masks.
    Its interval is a paired t-interval; the deviation is that of all trainings of these rows from the sums of an effect
    of the row and one of the seed, as if all rows varied equally. Rows that share their trainings have an interval of
    their own, from the spread of their differences.
    """
    results = {row: {seed: one for seed, one in found.items() if _start(one)} for row, found in results.items()}
    trained = {row for pair in ADDITIONS.values() for row in pair if ROWS[row].weights_of is None} & results.keys()
    deviation, freedom = _deviation(
        {(row, seed, _start(run)): run['mIoU'] for row in sorted(trained) for seed, run in results[row].items()}
    )
    lines = []
    for name, (row, base) in ADDITIONS.items():
        ours, theirs = results.get(row, {}), results.get(base, {})
        seeds = sorted(seed for seed in ours.keys() & theirs.keys() if not _unlike(ours[seed], theirs[seed]))
        if not seeds:
            continue
        values = [ours[seed]['mIoU'] - theirs[seed]['mIoU'] for seed in seeds]
        if all(_shared(ours[seed], theirs[seed]) for seed in seeds):
            known, margin = len(values) > 1, _margin(*spread([values]), 1 / len(values))
        else:
            known, margin = freedom > 0 and len(values) > 1, _margin(deviation, freedom, 2 / len(values))
        change = mean(values)
        interval = f'{_signed(change - margin)} to {_signed(change + margin)}' if known else '–'
        lines.append([name, base, str(len(values)), _signed(change), interval, ', '.join(map(_signed, values))])
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


def _welch(first: list[float], second: list[float]) -> float:
    """Half the width of Welch's 95 % t-interval of the difference of two means."""
    if len(first) < 2 or spread([first, second])[0] == 0:
        return 0.0
    low, high = ttest_ind(first, second, equal_var=False).confidence_interval()
    return float(high - low) / 2


def _deviation(scores: dict[tuple, float]) -> tuple[float, int]:
    """The standard deviation of scores from sums of an effect of the row and one of the rest of their key.

    Also returns its degrees of freedom. Keys have a row, a seed and a start.
    """
    rows, blocks = (list(dict.fromkeys(key[part] for key in scores)) for part in (slice(1), slice(1, None)))
    effects = [*rows, *blocks]
    if not scores:
        return 0.0, 0
    design = np.array([[float(effect in (key[:1], key[1:])) for effect in effects] for key in scores])
    values = np.array(list(scores.values()))
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    squares, freedom = float(((values - design @ fitted) ** 2).sum()), len(scores) - int(rank)
    return sqrt(squares / freedom) if freedom else 0.0, freedom


def _shared(first: dict, second: dict) -> bool:
    """Whether two runs were scored on the weights of one training."""
    return first.get('weights_sha256') == second.get('weights_sha256') is not None


def _start(scores: dict) -> tuple:
    """The weights from which a run started, and its masks; () for older results, which do not name their start."""
    start = (scores.get('load_from'), scores.get('load_from_sha256'), scores.get('masks', SHIFTED))
    return (scores['pretrain'], *start) if 'pretrain' in scores else ()


def _unlike(first: dict, second: dict) -> str:
    """Why two runs cannot be compared; '' if they can."""
    starts = _start(first), _start(second)
    if () in starts:
        return 'unknown start'
    if starts[0][:-1] != starts[1][:-1]:
        return 'different starts'
    return 'different masks' if starts[0] != starts[1] else ''


def _signed(value: float) -> str:
    return f'{round(value, 2) + 0.0:+.2f}'  # no -0.00


def _mean(fits: list[dict], key: str, form: str) -> str:
    values = [fit[key] for fit in fits if fit[key] is not None]
    return format(mean(values), form) if values else '–'


def _mious(found: dict[int, dict]) -> dict[int, float]:
    return {seed: scores['mIoU'] for seed, scores in found.items()}


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ['---'] * len(head), *lines]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows) if lines else ''


TABLES_OF_RESULTS = (scores_table, attributes_table, words_table, pairs_table, additions_table, calibration_table)
