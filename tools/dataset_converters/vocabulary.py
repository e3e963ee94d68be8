"""Collect the words of referring sentences into a BERT vocabulary, for a text encoder trained from random weights.

Usage: python tools/dataset_converters/vocabulary.py "data/coco/refcoco/refs(unc).p" --out data/coco/vocab.txt
"""
import argparse
import os
import string
from collections import Counter
from pathlib import Path

from dit_sam.datasets.safe_pickle import load_refs
from dit_sam.engine.launch import one_line_errors
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
# Letters, alone and as the continuation of a word, spell the words that are not in the list.
LETTERS = tuple(string.ascii_lowercase + string.digits + string.punctuation)
PIECES = tuple(f'##{letter}' for letter in string.ascii_lowercase + string.digits)


def vocabulary(refs: list[dict], size: int) -> list[str]:
    """Special tokens, letters, then the words of the training sentences from the most frequent one on.

    Args:
        refs: References as in REFER.
        size: Number of tokens at most.
    """
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    sentences = (sentence['sent'] for ref in refs if ref['split'] == 'train' for sentence in ref['sentences'])
    words = Counter(word for sentence in sentences
                    for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(sentence)))
    ranked = sorted(words, key=lambda word: (-words[word], word))
    return list(dict.fromkeys((*SPECIAL, *LETTERS, *PIECES, *ranked)))[:size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('refs', nargs='+', help='refs(*).p files, of which the training split is read')
    parser.add_argument('--out', required=True, help='file to write, one token a line')
    parser.add_argument('--size', type=int, default=8192, help='number of tokens at most')
    args = parser.parse_args()
    with one_line_errors():
        tokens = vocabulary([ref for path in args.refs for ref in load_refs(path)], args.size)
        out = Path(args.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(f'.{out.name}.tmp')
        aside.write_text('\n'.join(tokens) + '\n', encoding='utf-8')
        os.replace(aside, out)
    print(f'{out}: {len(tokens)} tokens')


if __name__ == '__main__':
    main()
