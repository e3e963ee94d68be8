"""Training sentences of a reference file, from which vocabularies and text models are made."""

from collections.abc import Iterator

from .json_lines import checked_record, naming_line, numbered_lines, record_sentences
from .reference_files import load_any_refs
from .table import ReferringTable


def training_sentences(path: str) -> Iterator[str]:
    """The sentences of a reference file: those of the split train, or all if the file has only one split.

    Args:
        path: `refs(*).p`, `grefs(*).json`, a prepared file (.safetensors) or lines of JSON (.jsonl).

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The file is damaged.
    """
    if path.endswith('.jsonl'):
        for number, line in numbered_lines(path):
            with naming_line(path, number):
                record = checked_record(line)
            yield from record_sentences(record)
    elif path.endswith('.safetensors'):
        table = ReferringTable.open(path)
        yield from (table.value('sentences.text', row) for row in range(table.rows('sentences')))
    else:
        refs = load_any_refs(path)
        yield from (sentence['sent'] for ref in refs if ref['split'] == 'train' for sentence in ref['sentences'])
