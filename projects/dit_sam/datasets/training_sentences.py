"""The sentences that a model may learn words from."""

from collections.abc import Iterator

from ..errors import InputError
from .grefs import load_grefs
from .json_lines import parse_line, read_lines, sentences_of
from .safe_pickle import load_refs
from .table import ReferringTable


def training_sentences(path: str) -> Iterator[str]:
    """The sentences of a reference file: those of split train, or all where the file holds one split.

    Args:
        path: refs(*).p, grefs(*).json, a prepared file (.safetensors) or lines of JSON (.jsonl).

    Raises:
        FileNotFoundError: There is no such file.
        InputError: The file is damaged.
    """
    if path.endswith('.jsonl'):
        yield from _sentences_of_lines(path)
    elif path.endswith('.safetensors'):
        table = ReferringTable.open(path)
        yield from (table.value('sentences.text', row) for row in range(table.rows('sentences')))
    else:
        refs = load_grefs(path) if path.endswith('.json') else load_refs(path)
        yield from (sentence['sent'] for ref in refs if ref['split'] == 'train' for sentence in ref['sentences'])


def _sentences_of_lines(path: str) -> Iterator[str]:
    for number, line in read_lines(path):
        record, problems = parse_line(line)
        if problems:
            raise InputError(
                f'{path}, line {number} {problems[0]}. `python tools/dataset_converters/check.py {path}` '
                'lists all that is wrong'
            )
        yield from sentences_of(record)
