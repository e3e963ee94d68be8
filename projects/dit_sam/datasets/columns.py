"""Columns of a `ReferringTable`: their types, and checks that they fit each other."""

import reprlib
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from ..errors import InputError

# Types of columns: numbers; concatenated texts or masks; concatenated lists of numbers.
NUMBER = ('int64',)
TEXT = ('ragged uint8',)
ID = NUMBER + TEXT
IDS = ID + ('ragged int64',)
GROUPS = dict(
    images=dict(id=ID, file_name=TEXT, height=NUMBER, width=NUMBER, coco_id=NUMBER),
    targets=dict(ann_id=IDS, mask=TEXT, outlines=TEXT, ignored=TEXT),
    references=dict(ref_id=ID, category_id=IDS, image=NUMBER, target=NUMBER, sentences=NUMBER),
    sentences=dict(sent_id=ID, text=TEXT, kind=TEXT, raw=TEXT),
)
KIND, RAW, OUTLINES = 'sentences.kind', 'sentences.raw', 'targets.outlines'
COCO_ID, IGNORED = 'images.coco_id', 'targets.ignored'
OPTIONAL = (KIND, RAW, OUTLINES, COCO_ID, IGNORED)
MASKS = ('targets.mask', IGNORED)
# A group's first column gives its number of rows.
KEYS = {group: f'{group}.{next(iter(names))}' for group, names in GROUPS.items()}
_IDS_WANTED = 'ids must be whole numbers or texts, all of one type'
_WANTED = {
    'targets.mask': 'a mask must be an array of (height, width), or the bytes that encode_segmentation returns',
    'sentences.text': 'a sentence must be text',
    'images.file_name': 'a file name must be text',
}
# JPEG's own limit is 65,535.
MAX_SIDE = 65535


def is_side(value: Any) -> bool:
    """Whether a value is the height or width of an image in pixels."""
    return type(value) is int and 0 < value <= MAX_SIDE


@dataclass(frozen=True)
class Ragged:
    """Concatenated entries of different lengths, `values`, and the end of each of them, int64."""

    values: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.ends[row - 1] if row else 0 : self.ends[row]]


Column = np.ndarray | Ragged


def make_column(name: str, entries: list[Any]) -> Column:
    """A column of entries: an array of ints, or a `Ragged` array of texts, bytes or tuples of ints."""
    entries = [int(entry) if isinstance(entry, np.integer) else entry for entry in entries]
    examples = {type(entry): entry for entry in entries}
    types = set(examples)
    if not (types <= {int} or types in ({str}, {bytes}, {tuple})) or (types == {int} and name in _WANTED):
        found = ' and '.join(sorted(f'{kind.__name__} ({reprlib.repr(entry)})' for kind, entry in examples.items()))
        raise InputError(f'{name}: found {found}, but {_WANTED.get(name, _IDS_WANTED)}')
    try:
        if types <= {int}:
            return np.array(entries, dtype=np.int64)
        if types == {tuple}:
            numbers = [number for entry in entries for number in entry]
            # numpy would read a text as a number.
            wrong = [number for number in numbers if not isinstance(number, (int, np.integer))]
            if wrong:
                raise InputError(
                    f'{name}: found {reprlib.repr(wrong[0])} in a list of ids, which must be whole numbers'
                )
            values = np.array(numbers, dtype=np.int64)
        else:
            entries = [entry.encode() for entry in entries] if types == {str} else entries
            values = np.frombuffer(b''.join(entries), dtype=np.uint8)
    except (OverflowError, UnicodeEncodeError) as error:
        raise InputError(f'{name}: {error}') from error
    return Ragged(values, np.fromiter(accumulate(map(len, entries)), np.int64, len(entries)))


def check_columns(columns: dict[str, Any]) -> None:
    """Raise InputError if a look-up by row could leave the table."""
    for group, kinds in GROUPS.items():
        for name, allowed in kinds.items():
            _check_column(columns, group, f'{group}.{name}', allowed)
    for side in ('height', 'width'):
        _check_range(f'images.{side}', columns[f'images.{side}'], 1, MAX_SIDE)
    for name in ('image', 'target'):
        _check_range(f'references.{name}', columns[f'references.{name}'], 0, len(columns[KEYS[f'{name}s']]) - 1)
    ends = columns['references.sentences']
    if (np.diff(ends, prepend=0) < 1).any() or (ends[-1] if len(ends) else 0) != len(columns[KEYS['sentences']]):
        raise InputError('the column references.sentences does not fit the sentences')


def _check_column(columns: dict[str, Column], group: str, name: str, allowed: tuple[str, ...]) -> None:
    if name not in columns:
        if name in OPTIONAL:
            return
        raise InputError(f'the column {name} is missing')
    column = columns[name]
    if _kind(column) not in allowed:
        raise InputError(f'the column {name} is of the wrong type or shape')
    if isinstance(column, Ragged):
        _check_ends(name, column)
    if len(column) != len(columns[KEYS[group]]):
        raise InputError(f'the column {name} is longer or shorter than {KEYS[group]}')


def _kind(column: Column) -> str:
    if not isinstance(column, Ragged):
        return str(column.dtype) if column.ndim == 1 else 'array'
    fits = column.values.ndim == column.ends.ndim == 1 and column.ends.dtype == np.int64
    return f'ragged {column.values.dtype}' if fits else 'array'


def _check_ends(name: str, column: Ragged) -> None:
    starts = np.concatenate([[0], column.ends])
    if (np.diff(starts) < 0).any() or starts[-1] != len(column.values):
        raise InputError(f'the entries of the column {name} do not fit their ends')
    if column.values.dtype == np.uint8 and name not in MASKS:
        first = column.values[starts[starts < len(column.values)]]
        try:
            column.values.tobytes().decode()
        except UnicodeDecodeError as error:
            raise InputError(f'the column {name} is not UTF-8: {error}') from error
        # 10xxxxxx continues a character, so no entry may start with it.
        if (first & 0xC0 == 0x80).any():
            raise InputError(f'an entry of the column {name} starts within a character')


def _check_range(name: str, column: np.ndarray, low: int, high: int) -> None:
    if len(column) and not (low <= column.min() and column.max() <= high):
        raise InputError(f'the column {name} has a value outside of {low} to {high}')
