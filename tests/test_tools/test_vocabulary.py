"""tools/dataset_converters/vocabulary.py: the words of the training sentences, from every kind of file."""

import json
from pathlib import Path

import pytest
from processes import call_tool

from dit_sam.datasets import RefCOCODataset

TOOL = 'dataset_converters/vocabulary.py'
# Of the training sentences in tests/conftest.py, by number and then by the alphabet. "a" to "z" are there as letters.
WORDS = ['box', 'the', 'left', 'bright', 'column', 'narrow', 'near', 'on', 'one', 'stripe', 'wall', 'wide']


@pytest.fixture
def files(write_refcoco, tmp_path) -> dict:
    """The same training sentences in every form, and those of other splits if the form has splits."""
    dataset = RefCOCODataset(write_refcoco())
    dataset.table.save(tmp_path / 'train.safetensors')
    rows = range(dataset.table.rows('sentences'))
    sentences = [dataset.table.sentence(row)['text'] for row in rows]
    record = dict(image='a.jpg', sentences=sentences, bbox=[1, 2, 3, 4])
    (tmp_path / 'train.jsonl').write_text(json.dumps(record) + '\n')
    refs = [
        dict(
            ref_id=number,
            image_id=1,
            ann_id=[1],
            category_id=[1],
            split=split,
            sentences=[dict(sent_id=0, sent=sent) for sent in texts],
        )
        for number, (split, texts) in enumerate((('train', sentences), ('val', ['other words'])))
    ]
    (tmp_path / 'grefs(unc).json').write_text(json.dumps(refs))
    names = ('refcoco/refs(unc).p', 'train.safetensors', 'train.jsonl', 'grefs(unc).json')
    return {Path(name).suffix: tmp_path / name for name in names}


@pytest.mark.parametrize('form', ['.p', '.safetensors', '.jsonl', '.json'])
def test_words_are_sorted_by_frequency(files, tmp_path, form):
    assert call_tool(TOOL, files[form], '--out', tmp_path / 'new' / 'vocab.txt') == 0
    tokens = (tmp_path / 'new' / 'vocab.txt').read_text().splitlines()
    assert tokens[:5] == ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    assert tokens[-len(WORDS) :] == WORDS and len(tokens) == len(set(tokens))


def test_several_files_and_a_size_limit(files, tmp_path):
    assert call_tool(TOOL, files['.p'], files['.jsonl'], '--size', 120, '--out', tmp_path / 'vocab.txt') == 0
    tokens = (tmp_path / 'vocab.txt').read_text().splitlines()
    assert len(tokens) == 120 and tokens[-1] in WORDS


@pytest.mark.parametrize('size', [109, 3, 0, -5])
def test_a_size_without_room_for_a_word_is_refused(files, tmp_path, error_of, size):
    """5 special tokens; 26 letters, 10 digits and 32 marks; as continuations 26 letters and 10 digits: 109."""
    message = f'--size must be more than 109, which special tokens and letters take, got {size}'
    assert message in error_of(TOOL, files['.p'], '--size', size, '--out', tmp_path / 'vocab.txt', alone=True)
    assert not (tmp_path / 'vocab.txt').exists()


def test_a_file_without_training_sentences_is_refused(files, tmp_path, error_of):
    path = files['.json']
    path.write_text(path.read_text().replace('"train"', '"testA"'))
    message = 'there are no training sentences: name files with a training split'
    assert message in error_of(TOOL, path, '--out', tmp_path / 'vocab.txt', alone=True)
    assert not (tmp_path / 'vocab.txt').exists()


@pytest.mark.parametrize('text, message', [('{}\n', 'line 1 has no "image"'), (None, 'not found')])
def test_bad_and_missing_lines_get_one_line(tmp_path, error_of, text, message):
    path = tmp_path / 'mine.jsonl'
    if text:
        path.write_text(text)
    assert message in error_of(TOOL, path, '--out', tmp_path / 'vocab.txt', alone=True)
    assert not (tmp_path / 'vocab.txt').exists()
