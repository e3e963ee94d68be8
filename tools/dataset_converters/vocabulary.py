"""Collect the words of referring sentences into a BERT vocabulary, for a text encoder trained from random weights.

Usage:
    python tools/dataset_converters/vocabulary.py "data/coco/refcoco/refs(unc).p" --out data/coco/vocab.txt
    python tools/dataset_converters/vocabulary.py data/mine/train.jsonl --out data/mine/vocab.txt
"""

import argparse
import string
from collections import Counter
from collections.abc import Iterable

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
# Letters, alone and as the continuation of a word, so that unknown words can be spelled.
LETTERS = tuple(string.ascii_lowercase + string.digits + string.punctuation)
PIECES = tuple(f'##{letter}' for letter in string.ascii_lowercase + string.digits)
ALWAYS = (*SPECIAL, *LETTERS, *PIECES)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'files',
        nargs='+',
        metavar='FILE',
        help='refs(*).p or grefs(*).json (their training split), a prepared file, or lines of JSON (.jsonl)',
    )
    parser.add_argument('--out', required=True, help='file to write, one token a line')
    parser.add_argument('--size', type=int, default=8192, help=f'number of tokens at most, more than {len(ALWAYS)}')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from dit_sam.datasets import training_sentences
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_file


def vocabulary(sentences: Iterable[str], size: int) -> list[str]:
    """At most `size` tokens: special tokens, letters, then the words of the sentences, the most frequent first.

    Raises:
        InputError: There are no words, or no room for one.
    """
    if size <= len(ALWAYS):
        raise InputError(f'--size must be more than {len(ALWAYS)}, which special tokens and letters take, got {size}')
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words = Counter(
        word for sentence in sentences for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(sentence))
    )
    if not words:
        raise InputError('there are no training sentences: name files with a training split')
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return list(dict.fromkeys((*ALWAYS, *ranked)))[:size]


def main(args: argparse.Namespace) -> None:
    with one_line_errors(OSError):
        check_file(args.out)
        tokens = vocabulary((sentence for path in args.files for sentence in training_sentences(path)), args.size)
        atomic_write_text(args.out, '\n'.join(tokens) + '\n')
    print(f'{args.out}: {len(tokens)} tokens')


if __name__ == '__main__':
    main(ARGS)
