"""Tokenizers from a hub, a folder, a bare vocabulary file or a list of words."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from ...errors import InputError
from .sources import why_nowhere

_FILES = 'the files of a tokenizer, such as tokenizer.json or vocab.txt'
SPECIAL_TOKENS = dict(pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]', sep_token='[SEP]')


def build_tokenizer(source: str | Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer that pads and cuts at the end, and to which a special token in a sentence is text.

    Args:
        source: A hub name, a folder written by `save_pretrained`, a BERT vocabulary file (`.txt`, one token a line),
            or the tokens themselves.

    Raises:
        FileNotFoundError: Neither such a file or folder nor a hub that answers.
        InputError: The vocabulary is no text, or the tokenizer lacks a special token, such as one for padding, or has
            no others.
    """
    tokenizer = _open(source)
    # transformers makes such a one for a folder of BERT without the files of a tokenizer.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(f'tokenizer {source!r} has special tokens and no word: a folder must hold {_FILES}')
    if tokenizer.pad_token_id is None:
        raise InputError(
            f'tokenizer {source!r} has no padding token: open it by AutoTokenizer.from_pretrained, set '
            'pad_token = eos_token, and give the folder that its save_pretrained writes'
        )
    tokenizer.padding_side = tokenizer.truncation_side = 'right'
    tokenizer.split_special_tokens = True
    if tokenizer.is_fast:
        _hide_special_pieces(tokenizer)
    return tokenizer


def _open(source: str | Sequence[str]) -> PreTrainedTokenizerBase:
    if not isinstance(source, str):
        return _word_piece(source, 'the list of tokens')
    if source.endswith('.txt'):
        if not Path(source).is_file():
            raise FileNotFoundError(
                f'vocabulary {source} does not exist; give a BERT vocab.txt (one token a line), '
                'a folder with a tokenizer, or a hub name such as bert-base-uncased'
            )
        try:
            # Lines end at line feeds alone: U+2028 and the like are tokens of some vocabularies.
            with open(source, encoding='utf-8', newline='\n') as file:
                return _word_piece([line.rstrip() for line in file], source)
        except UnicodeDecodeError as error:
            raise InputError(f'vocabulary {source} is no text: {error}') from error
    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f'no tokenizer at {source!r}: {why_nowhere(source, _FILES)}') from error


def _hide_special_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    """Break special tokens in a text where the model has them among the pieces that it looks for.

    So have XLM-RoBERTa, DeBERTa-v3 and T5, whose own sentencepiece knows that they are none to be found.
    """
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, (models.Unigram, models.WordLevel)):
        return
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    # Behind the tokenizer's own steps, which may write '</s>' where a sentence has the full-width letters of it. '▁' is
    # how these models write a blank.
    breaks = [normalizers.Replace(token, f'{token[:1]}▁{token[1:]}') for token in specials]
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*own, *breaks])


def _word_piece(tokens: Sequence[str], where: str) -> PreTrainedTokenizerFast:
    """BERT's uncased WordPiece over the given tokens; ids are their places."""
    missing = [token for token in SPECIAL_TOKENS.values() if token not in tokens]
    if missing:
        raise InputError(f'{where} lacks the special tokens {missing}')
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token='[UNK]'))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='[CLS] $A [SEP]', special_tokens=[(token, vocabulary[token]) for token in ('[CLS]', '[SEP]')]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
