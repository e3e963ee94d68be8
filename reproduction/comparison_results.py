"""The JSON files of a comparison: those of its finished runs, and whether they have one budget."""

import json
from collections.abc import Iterable, Set
from fractions import Fraction
from math import isfinite
from pathlib import Path

from comparison_rows import ROWS, name_of

from dit_sam.errors import InputError

SCORES = ('oIoU', 'mIoU', 'P@0.5', 'P@0.7', 'P@0.9', 'mIoU/attribute', 'mIoU/place', 'mIoU/relation')
# Of the hard data only.
NESTED = 'mIoU/nested'
# The options that decide what a row reaches; all rows of a folder have the same.
BUDGET = 'images data_seed test_images pretrain load_from size epochs lr warmup amp hard cfg_options'.split()
# How training masks lie on their pictures. `CENTERED` is that of ReferringResize. Older results do not name it: theirs
# lie half an input pixel to the right and below, as mmcv's Resize puts them.
CENTERED, SHIFTED = 'centered', 'shifted'
# In a folder of results, newer ones differ in these from those that they replace.
REPLACED = {'pretrain', 'load_from', 'masks'}
Results = dict[str, dict[int, dict]]


def read_results(folder: Path) -> Results:
    """The finished runs of a folder, by row and seed.

    Raises:
        InputError: There is none, a file is damaged, or is of a row with another name, or two differ in their budget or
            in the weights from which a seed starts.
    """
    runs = {path: read_scores(path) for path in sorted(folder.glob('*_seed*.json'))}
    if not runs:
        raise InputError(f'there is no result in {folder}: leave out --table, or name another --work-dir')
    check_budgets(runs.items(), ignored=REPLACED)
    results: Results = {row: {} for row in ROWS}
    for run in runs.values():
        results[run['row']][run['seed']] = run
    return {row: found for row, found in results.items() if found}


def read_scores(path: Path) -> dict:
    """The scores of a run.

    Raises:
        InputError: The file is damaged, or of a row that has another name now.
    """
    remedy = 'delete it, and the next run scores that row again'
    scores = read_note(path, remedy)
    expected = ('seed', *SCORES, NESTED) if scores.get('hard') else ('seed', *SCORES)
    if not isinstance(scores.get('row'), str) or not all(_is_number(scores.get(key)) for key in expected):
        raise InputError(f'{path} is damaged: {remedy}')
    if scores['row'] not in ROWS or path.name != f'{name_of(scores["row"], scores["seed"])}.json':
        raise InputError(f'{path} is of no row that there is now: move it away')
    return scores


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def read_note(path: Path, remedy: str) -> dict:
    """The values in a JSON file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f'{path} is damaged: {remedy}') from error


def check_budgets(
    notes: Iterable[tuple[Path, dict]], budget: dict | None = None, ignored: Set[str] = frozenset()
) -> None:
    """Check that trainings have one budget, and that those of a seed start from the same trained weights.

    Args:
        notes: Files, and what they say of a training. Older ones do not have all keys.
        budget: What is expected; by default the budget of the first file.
        ignored: Options that may differ.

    Raises:
        InputError: A file has another one.
    """
    expected, starts = dict(budget or {}), {}
    for path, note in notes:
        for key, value in budget_of(note).items():
            if key not in ignored and expected.setdefault(key, value) != value:
                other = f'{key}={value}, not {expected[key]}'
                raise InputError(f'{path} is of a comparison with {other}: name another --work-dir, or move it away')
        start = note.get('load_from_sha256')
        if start and starts.setdefault(note['seed'], start) != start:
            raise InputError(f'{path} starts from other weights than the rest of seed {note["seed"]}: move it away')


def budget_of(note: dict) -> dict:
    """The budget of a training, as far as it is noted; epochs are those of a row that trains by sentences."""
    budget, row = {key: note[key] for key in BUDGET if key in note}, note.get('row')
    if row is not None:
        budget['masks'] = note.get('masks', SHIFTED)
    # The row of a training may have another name by now.
    if row in ROWS and 'epochs' in budget:
        budget['epochs'] = Fraction(budget['epochs']) / ROWS[ROWS[row].weights_of or row].epochs
    return budget
