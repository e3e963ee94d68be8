"""Sentences of every kind, for the inferencer and a data set."""

from pathlib import Path
from random import Random

import numpy as np
from fuzzing import Attempt, accepted, refused
from subjects import GOOD, REFS, inferencer, open_set, read_all, reference, write_set

from dit_sam.visualization import file_stem

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
WORDS = 'circle square triangle star the red green blue left of above big small striped thing'.split()
# Letters of scripts that are written from the right, from above, or joined; marks; symbols.
SCRIPTS = [
    (0x5D0, 0x5EA),
    (0x627, 0x64A),
    (0x4E00, 0x9FFF),
    (0x3041, 0x3096),
    (0xAC00, 0xD7A3),
    (0x904, 0x939),
    (0xE01, 0xE2E),
    (0x410, 0x44F),
    (0x3B1, 0x3C9),
    (0x1F300, 0x1F64F),
    (0x1F900, 0x1F9FF),
    (0x300, 0x36F),
    (0x2190, 0x21FF),
    (0xE000, 0xF8FF),
    (0xFF01, 0xFF5E),
    (0x10000, 0x100FF),
]
# Without those that BERT's normalizer treats as white space, which separates words. The last ones are zero-width
# characters, direction marks, the soft hyphen and the byte-order mark.
CONTROLS = [
    *map(chr, (*range(9), 11, 12, *range(14, 32), *range(127, 160))),
    *'\u200b\u200c\u200d\u200e\u200f\u202a\u202b'
    '\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\u00ad\ufeff',
]
SPACES = [' ', '\t', '\n', '\r', '\u00a0', '\u2003', '\u3000', '\u2028', '\x0b', '\x85']


def probabilities(sentence: str) -> np.ndarray:
    """The tiny model's output for a sentence: the probability of every pixel."""
    (sample,) = inferencer()(IMAGE, sentence, return_datasamples=True)['predictions']
    assert sample.text == sentence
    found = sample.seg_logits.data[0].numpy()
    assert found.shape == IMAGE.shape[:2] and found.min() >= 0 and found.max() <= 1
    stem = file_stem('a.png', sentence)
    assert len(stem.encode()) < 240 and not set(stem) & set('/\\\0\n:*?"<>|'), stem
    return found


def words(rng: Random, most: int = 8) -> list[str]:
    return rng.choices(WORDS, k=rng.randint(1, most))


def same(folder: Path, sentence: str, plain: str) -> Attempt:
    """A sentence has the mask of a plain one, and comes unchanged out of a data set."""

    def run() -> None:
        np.testing.assert_allclose(probabilities(sentence), probabilities(plain), atol=1e-6)
        kept(folder, sentence)

    return Attempt(run)


def kept(folder: Path, sentence: str) -> None:
    write_set(folder, GOOD, [reference(text=sentence)])
    (item,) = read_all(open_set(folder))
    assert item['text'] == sentence


@accepted(
    'sentences',
    'other scripts, right-to-left, emoji, marks, private-use characters',
    'a mask; the text is kept',
    share=0.4,
)
def scripts(rng: Random, folder: Path) -> Attempt:
    text = ''.join(chr(rng.randint(*rng.choice(SCRIPTS))) for _ in range(rng.randint(1, 40)))
    text = text + ' ' + ' '.join(words(rng))

    def run() -> None:
        probabilities(text)
        kept(folder, text)

    return Attempt(run)


@accepted('sentences', '30 to 600 words', 'the mask of the first words, up to max_length', share=0.4)
def long(rng: Random, folder: Path) -> Attempt:
    text = rng.choices(WORDS, k=rng.randint(30, 600))
    return same(folder, ' '.join(text), ' '.join(text[:18]))  # 20 tokens less [CLS] and [SEP]


@accepted('sentences', 'words of 100 to 100,000 letters', 'the mask of an unknown word', share=0.1)
def long_word(rng: Random, folder: Path) -> Attempt:
    return same(folder, rng.choice('abcxyz') * int(10 ** rng.uniform(2, 5)), 'zebra')


@accepted(
    'sentences',
    'control and format characters in and between words, also NUL',
    'the mask of the words without them',
    share=0.4,
)
def controls(rng: Random, folder: Path) -> Attempt:
    plain = ' '.join(words(rng))
    text = list(plain)
    for _ in range(rng.randint(1, 20)):
        text.insert(rng.randrange(len(text) + 1), rng.choice(CONTROLS))
    return same(folder, ''.join(text), plain)


@accepted('sentences', 'capital letters, any white space between words', 'the mask of the plain words', share=0.4)
def spaces(rng: Random, folder: Path) -> Attempt:
    parts = words(rng)
    text = ''.join(
        rng.choice([word, word.upper(), word.title()]) + ''.join(rng.choices(SPACES[:7], k=rng.randint(1, 3)))
        for word in parts
    )
    return same(folder, text, ' '.join(parts))


@accepted(
    'sentences',
    'special tokens of the tokenizer, such as [SEP]',
    'the mask of their letters, with separate punctuation',
    share=0.4,
)
def special_tokens(rng: Random, folder: Path) -> Attempt:
    parts = words(rng, 3)
    for _ in range(rng.randint(1, 3)):
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']))
    text = ' '.join(parts)
    return same(folder, text, text.replace('[', '[ ').replace(']', ' ]'))


@refused('sentences', 'empty, or white space of any kind', 'which sentence', share=0.4)
def blank(rng: Random, folder: Path) -> Attempt:
    text = ''.join(rng.choices(SPACES, k=rng.randint(0, 5)))
    return Attempt(lambda: inferencer()(IMAGE, ['circle', text]), ('sentence 2 of 2', 'image_1'))


@refused('sentences', 'empty or white space in a data set', 'file, reference, sentence')
def blank_reference(rng: Random, folder: Path) -> Attempt:
    text = ''.join(rng.choices(SPACES, k=rng.randint(0, 5)))
    return Attempt(lambda: kept(folder, text), (REFS, 'reference 1', 'sentence 10'))


@refused('sentences', 'lone surrogates', 'which sentence', share=0.4)
def surrogates(rng: Random, folder: Path) -> Attempt:
    text = list(' '.join(words(rng)))
    text.insert(rng.randrange(len(text) + 1), chr(rng.randint(0xD800, 0xDFFF)))
    return Attempt(lambda: inferencer()(IMAGE, ['circle', ''.join(text)]), ('sentence 2 of 2', 'image_1'))


@refused('sentences', 'lone surrogates in a data set', 'file, reference, sentence')
def surrogate_reference(rng: Random, folder: Path) -> Attempt:
    text = 'a box ' + chr(rng.randint(0xD800, 0xDFFF))
    return Attempt(lambda: kept(folder, text), (REFS, 'reference 1', 'sentence 10'))


@refused('sentences', 'numbers, bytes, None, lists and similar as text', 'which sentence')
def no_text(rng: Random, folder: Path) -> Attempt:
    value = rng.choice([None, 3, 0.5, True, b'circle', {}, ['circle'], object(), np.zeros(3)])
    return Attempt(lambda: inferencer()(IMAGE, ['circle', value]), ('sentence 2 of 2', 'image_1'))
