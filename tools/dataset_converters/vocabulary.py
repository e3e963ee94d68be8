"""Collect the words of referring sentences into a BERT vocabulary, for a text encoder trained from random weights.

Usage:
    python tools/dataset_converters/vocabulary.py "data/coco/refcoco/refs(unc).p" --out data/coco/vocab.txt
    python tools/dataset_converters/vocabulary.py data/mine/train.jsonl --out data/mine/vocab.txt
"""
import argparse
import os
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from dit_sam.datasets import ReferringTable
from dit_sam.datasets.grefs import load_grefs
from dit_sam.datasets.json_lines import parse_line, read_lines, sentences_of
from dit_sam.datasets.safe_pickle import load_refs
from dit_sam.engine.launch import one_line_errors
from dit_sam.errors import InputError
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
# Letters, alone and as the continuation of a word, spell the words that are not in the list.
LETTERS = tuple(string.ascii_lowercase + string.digits + string.punctuation)
PIECES = tuple(f'##{letter}' for letter in string.ascii_lowercase + string.digits)


def training_sentences(path: str) -> Iterator[str]:
    """The sentences of split train of a reference file; all of a prepared file, and of lines of JSON."""
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
            raise InputError(f'{path}, line {number} {problems[0]}. `python tools/dataset_converters/check.py {path}` '
                             'lists all that is wrong')
        yield from sentences_of(record)


def vocabulary(sentences: Iterable[str], size: int) -> list[str]:
    """Special tokens, letters, then the words of the sentences from the most frequent one on; at most `size` tokens."""
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(word for sentence in sentences
                    for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(sentence)))
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return list(dict.fromkeys((*SPECIAL, *LETTERS, *PIECES, *ranked)))[:size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', metavar='FILE',
                        help='refs(*).p or grefs(*).json, of which the training split is read, a prepared file, or '
                        'lines of JSON (.jsonl)')
    parser.add_argument('--out', required=True, help='file to write, one token a line')
    parser.add_argument('--size', type=int, default=8192, help='number of tokens at most')
    args = parser.parse_args()
    with one_line_errors(OSError):
        tokens = vocabulary((sentence for path in args.files for sentence in training_sentences(path)), args.size)
        out = Path(args.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f'.{out.name}.tmp')
        aside.write_text('\n'.join(tokens) + '\n', encoding='utf-8')
        os.replace(aside, out)
    print(f'{out}: {len(tokens)} tokens')


if __name__ == '__main__':
    main()
