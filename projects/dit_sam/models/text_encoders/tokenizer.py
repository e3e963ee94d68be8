"""Tokenizers from a hub, a folder, a file or a list of tokens, and writing them to files."""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, XLMRobertaTokenizerFast

from ...errors import InputError, first_line
from ...utils import atomic_write_text

_FILES = 'the files of a tokenizer, such as tokenizer.json or vocab.txt'
# EVF-SAM's `model_type`, which transformers does not know and warns about; its tokenizer is XLM-RoBERTa's.
_EVF_SAM = 'evf'
# What is written beside tokenizer.json.
SETTINGS = 'tokenizer_config.json'
_NAMED_TOKENS = ('pad_token', 'unk_token', 'cls_token', 'sep_token', 'bos_token', 'eos_token', 'mask_token')
# For comparing two tokenizers: words, case, accents, special tokens of several families, full-width letters.
_PROBES = ('the man on the LEFT', 'café, un-known (x2)', '[SEP] </s> <pad> <|endoftext|>', '\uff1c/s\uff1e \u732b')
SPECIAL_TOKENS = dict(pad_token='[PAD]', unk_token='[UNK]', cls_token='[CLS]', sep_token='[SEP]')


def build_tokenizer(source: str | Sequence[str]) -> PreTrainedTokenizerBase:
    """A tokenizer that pads and truncates at the end, and treats special tokens in a sentence as text.

    Args:
        source: A hub name, a folder written by transformers' `save_pretrained`, a BERT vocabulary file (`.txt`, one
            token a line), a `.json` file written by `save_tokenizer`, or the tokens themselves. No code in a folder or
            on a hub is run.

    Raises:
        FileNotFoundError: There is no such file or folder, and no hub answers to the name.
        InputError: The file is damaged, or the tokenizer lacks a special token or has no others.
    """
    tokenizer = _open(source)
    # transformers makes one from a folder of BERT without the files of a tokenizer.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(f'tokenizer {source!r} has special tokens but no words: a folder must hold {_FILES}')
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


def save_tokenizer(source: str | Sequence[str], folder: Path) -> None:
    """Write tokenizer.json and `SETTINGS` to a folder; `build_tokenizer` opens the former to the same tokenizer.

    Args:
        source: As in `build_tokenizer`.
        folder: Where to write.

    Raises:
        FileNotFoundError: As in `build_tokenizer`.
        InputError: As in `build_tokenizer`, or the tokenizer is not of the tokenizers library.
    """
    expected, tokenizer = build_tokenizer(source), _open(source)
    if not tokenizer.is_fast:
        raise InputError(f'tokenizer {source!r} has no tokenizer.json: use one of the tokenizers library (is_fast)')
    tokens = {name: getattr(tokenizer, name) for name in _NAMED_TOKENS}
    settings = {name: str(token) for name, token in tokens.items() if token is not None}
    atomic_write_text(folder / 'tokenizer.json', tokenizer.backend_tokenizer.to_str(pretty=True))
    atomic_write_text(
        folder / SETTINGS,
        json.dumps(
            dict(
                settings,
                model_input_names=list(tokenizer.model_input_names),
                # For AutoTokenizer; nothing is read from this key here.
                tokenizer_class='PreTrainedTokenizerFast',
            ),
            indent=2,
            ensure_ascii=False,
        ),
    )
    written = build_tokenizer(str(folder / 'tokenizer.json'))
    if any(_behavior(written, probe) != _behavior(expected, probe) for probe in _PROBES):
        raise InputError(f'tokenizer {source!r} does not open from its tokenizer.json to the same tokenizer')


def _behavior(tokenizer: PreTrainedTokenizerBase, probe: str) -> list:
    """What decides how a model sees a sentence."""
    ids = tokenizer(probe, padding='max_length', truncation=True, max_length=12)['input_ids']
    return [len(tokenizer), tokenizer.pad_token_id, tokenizer.model_input_names[1:], ids]


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
            # Only line feeds end lines: U+2028 and the like are tokens of some vocabularies.
            with open(source, encoding='utf-8', newline='\n') as file:
                return _word_piece([line.rstrip() for line in file], source)
        except UnicodeDecodeError as error:
            raise InputError(f'vocabulary {source} is no text: {error}') from error
    if source.endswith('.json'):
        return _from_json(Path(source))
    try:
        if _model_type(Path(source)) == _EVF_SAM:
            return _with_byte_pairs(XLMRobertaTokenizerFast.from_pretrained(source))
        # Without the last argument transformers would ask at the terminal.
        return _with_byte_pairs(AutoTokenizer.from_pretrained(source, trust_remote_code=False))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise FileNotFoundError(f'no tokenizer at {source!r}: {why_nowhere(source, _FILES, error)}') from error


def _model_type(folder: Path) -> str | None:
    """What config.json in a folder says; None without one."""
    try:
        return json.loads((folder / 'config.json').read_text(encoding='utf-8')).get('model_type')
    except (OSError, ValueError, AttributeError):
        return None


def _from_json(path: Path) -> PreTrainedTokenizerFast:
    """A tokenizer from its data alone: no class is chosen by what the files say, and no hub is asked."""
    try:
        settings = json.loads(path.with_name(SETTINGS).read_text(encoding='utf-8'))
        # The library opens the file by itself, and its errors for a missing one are of no special class.
        tokenizer = Tokenizer.from_str(path.read_text(encoding='utf-8'))
        tokens = {name: str(settings[name]) for name in _NAMED_TOKENS if name in settings}
        names = [str(name) for name in settings['model_input_names']]
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **tokens)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'tokenizer {path} is incomplete: {error.filename} not found') from error
    except Exception as error:  # the library raises `Exception` itself
        raise InputError(f'tokenizer {path} is damaged ({first_line(error)}): save or download it again') from error


def _with_byte_pairs(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Repair a tokenizer that was read from a sentencepiece file of byte pairs as if it had unigrams.

    XLM-RoBERTa's tokenizer in transformers 5 does so, and cuts words into other pieces. In a file of byte pairs the
    scores of the pieces are their ranks, 0, -1, -2, ...
    """
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    if backend is None or not isinstance(backend.model, models.Unigram):
        return tokenizer
    pieces = json.loads(backend.to_str())['model']['vocab']
    # Special tokens are first and last, with the score 0; the first piece of all has the score 0 too.
    first = next((i for i, (_, score) in enumerate(pieces) if score), len(pieces)) - 1
    ranks = {piece: -round(score) for piece, score in pieces[first:] if score}
    if len(ranks) < 2 or list(ranks.values()) != list(range(1, len(ranks) + 1)):
        return tokenizer
    ranks = {pieces[first][0]: 0, **ranks}
    vocabulary = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = [
        (ranks[piece], piece[:i], piece[i:])
        for piece in ranks
        for i in range(1, len(piece))
        if piece[:i] in ranks and piece[i:] in ranks
    ]
    pairs = [(left, right) for _, left, right in sorted(merges)]
    backend.model = models.BPE(vocabulary, pairs, unk_token=tokenizer.unk_token, fuse_unk=True)
    return tokenizer


def _hide_special_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    """Keep special tokens in a sentence from being matched, where they are among the pieces of the model.

    XLM-RoBERTa, DeBERTa-v3 and T5 have them there; sentencepiece does not match them either.
    """
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, (models.Unigram, models.WordLevel)):
        return
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    # After the tokenizer's own normalization, which turns full-width letters into '</s>'. '▁' is a blank to these
    # models.
    breaks = [normalizers.Replace(token, f'{token[:1]}▁{token[1:]}') for token in specials]
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*own, *breaks])


def _word_piece(tokens: Sequence[str], where: str) -> PreTrainedTokenizerFast:
    """BERT's uncased WordPiece over the given tokens, whose ids are their indices."""
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
    mask = dict(mask_token='[MASK]') if '[MASK]' in vocabulary else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS, **mask)


def why_nowhere(source: str, wanted: str, error: Exception) -> str:
    """Why nothing was found at a folder or hub name, and the remedy, for the end of a message.

    Args:
        source: The name.
        wanted: The files that a folder must hold.
        error: What transformers raised.
    """
    if 'custom code' in str(error):
        return 'it asks for Python code of its own, which is not run; use a model that transformers has'
    if Path(source).is_dir():
        return f'the folder lacks {wanted}; copy it there from the source of the other files'
    if source.startswith(('.', '~')) or Path(source).is_absolute():
        return 'there is no such folder; check the path'
    return (
        'there is no such folder, and no hub answers to that name. On a machine with a network: '
        f'`hf download {source} --local-dir {source}`, then copy that folder here'
    )
