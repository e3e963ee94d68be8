"""Sentences to token ids, against transformers' own tokenizer."""

import json

import pytest
from tiny import VOCABULARY, bert_tokenizer, needs_transformers_5
from transformers import BertTokenizer

from dit_sam.models.text_encoders import build_tokenizer, make_config

SENTENCES = [
    'the red box',
    'cat',
    'the small cats left of the big blue box',
    'The RED box',
    'a café',
    'un-known cat!',
    'dog\'s, cat. "box"?',
    'zebra',
    'a  wide \t gap',
    'bluish box 12',
    'red猫cat',
    '',
    '[SEP] the [cls] [CLS] cat',
    'naïve ﬁsh — «box»',
    'box\u200b\u0000ed',
    'x' * 150,
]


@needs_transformers_5
@pytest.mark.parametrize('source', ['tokens', 'vocabulary file', 'folder'])
def test_the_tokenizer_equals_transformers(source, tmp_path):
    bert_tokenizer(model_max_length=24).save_pretrained(tmp_path)
    (tmp_path / 'vocab.txt').write_text('\n'.join(VOCABULARY) + '\n', encoding='utf-8')
    sources = {'tokens': VOCABULARY, 'vocabulary file': str(tmp_path / 'vocab.txt'), 'folder': str(tmp_path)}
    tokenizer, expected = build_tokenizer(sources[source]), bert_tokenizer(split_special_tokens=True)
    for sentence in SENTENCES:
        assert tokenizer(sentence)['input_ids'] == expected(sentence)['input_ids'], sentence
    assert tokenizer('the cats')['input_ids'] == [
        VOCABULARY.index(token) for token in ('[CLS]', 'the', 'cat', '##s', '[SEP]')
    ]


@needs_transformers_5
@pytest.mark.parametrize('token', ['\u2028', '\u0085', '\x0b', '\x1c', '', 'a\rb', 'the ', 'cat\r'], ids=ascii)
def test_lines_of_a_vocabulary_end_at_line_feeds(token, tmp_path):
    """bert-base-chinese has U+2028, at which Python would also end a line; every later id would be one too high."""
    tokens = [*VOCABULARY[:5], token, *VOCABULARY[5:]]
    (tmp_path / 'vocab.txt').write_bytes('\n'.join(tokens).encode())
    ours = build_tokenizer(str(tmp_path / 'vocab.txt'))
    expected = BertTokenizer.from_pretrained(tmp_path, split_special_tokens=True)
    assert ours(SENTENCES)['input_ids'] == expected(SENTENCES)['input_ids']
    assert ours('the cat')['input_ids'][1:-1] == [tokens.index('the'), tokens.index('cat')]


def test_a_missing_vocabulary_is_named():
    with pytest.raises(FileNotFoundError, match='vocabulary no/such/vocab.txt does not exist'):
        build_tokenizer('no/such/vocab.txt')


def test_a_vocabulary_without_special_tokens_names_them():
    with pytest.raises(ValueError, match=r"the list of tokens lacks the special tokens \['\[CLS\]', '\[SEP\]'\]"):
        build_tokenizer(['[PAD]', '[UNK]', 'cat'])


@pytest.mark.parametrize('open_it', [build_tokenizer, make_config])
def test_code_in_a_folder_is_not_run_nor_asked_about(tmp_path, open_it, monkeypatch):
    monkeypatch.setattr('builtins.input', lambda *_: pytest.fail('the user was asked'))
    code = dict(AutoConfig='mine.Config', AutoTokenizer=['mine.Words', None])
    (tmp_path / 'config.json').write_text(json.dumps(dict(model_type='mine', auto_map=code)))
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(dict(tokenizer_class='Words', auto_map=code)))
    (tmp_path / 'mine.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
    with pytest.raises(FileNotFoundError, match='it asks for Python code of its own, which is not run'):
        open_it(str(tmp_path))
    assert not (tmp_path / 'ran').exists()
