"""Readers of the reference files of RefCOCO and gRefCOCO. Pickles are read without running code in them."""

import io
import json
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

from ..errors import InputError

REF_KEYS = ('ref_id', 'ann_id', 'image_id', 'category_id', 'split', 'sentences')
SENTENCE_KEYS = ('sent_id', 'sent')
GREF_TYPES = dict(ref_id=int, image_id=int, split=str, sentences=list)
GREF_SENTENCE_TYPES = dict(sent_id=int, sent=str)
# The opcodes of plain data by their names in `pickle`, and those whose refusal names the object.
OPCODES = (
    'PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET '
    'NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING '
    'UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 '
    'EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS '
    'GLOBAL STACK_GLOBAL INST EXT1 EXT2 EXT4 PERSID'
).split()


def _refuse(_: Any) -> None:
    raise pickle.UnpicklingError('it holds an instruction that plain data does not need')


def _build_list(size: int) -> Callable:
    """The handler of TUPLE1, TUPLE2 or TUPLE3."""

    def load(unpickler: Any) -> None:
        unpickler.stack[-size:] = [unpickler.stack[-size:]]

    return load


class PlainUnpickler(pickle._Unpickler):
    """An unpickler that builds only numbers, text, lists and dicts.

    A pickle can run code only through an object that it looks up by name. Every look-up is refused here, and so are
    persistent ids and the instructions that call or change objects. Tuples become lists.

    It is based on the unpickler in Python. The one in C is three times faster, but a few bytes make it fill all memory
    (a large number of a memo entry), crash, or run forever (a key of nested tuples).

    Raises:
        pickle.UnpicklingError: The stream asks for anything else.
    """

    dispatch = dict.fromkeys(range(256), _refuse)
    dispatch.update(
        {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES}
    )
    dispatch[pickle.EMPTY_TUPLE[0]] = dispatch[pickle.EMPTY_LIST[0]]
    dispatch[pickle.TUPLE[0]] = dispatch[pickle.LIST[0]]
    dispatch.update(
        {code[0]: _build_list(size) for size, code in enumerate((pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3), 1)}
    )

    def find_class(self, module: str, name: str) -> Any:
        # As JSON, so that a name with line breaks in it stays one line.
        raise pickle.UnpicklingError(f'it asks for the global {json.dumps(f"{module}.{name}"[:100])}')

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f'it asks for the persistent id {reprlib.repr(pid)}')


def load_plain_pickle(path: str) -> Any:
    """Read a pickle of plain containers (protocols 0 to 5, written by Python 2 or 3).

    Raises:
        InputError: The file is not a complete pickle, or holds anything but plain data.
    """
    with open(path, 'rb') as file:
        data = file.read()
    # Python 2 wrote byte strings without an encoding, nearly all of them ASCII. UTF-8 reads the few accents from web
    # forms. Latin-1, which accepts every byte, is for files that are not UTF-8.
    reason: object = None
    for encoding in ('utf-8', 'latin-1'):
        try:
            return PlainUnpickler(io.BytesIO(data), encoding=encoding).load()
        except UnicodeDecodeError as error:
            reason = error
        except EOFError:
            reason = 'it ends too early'
            break
        except Exception as error:  # a damaged stream may raise nearly anything, say the docs of `pickle`
            reason = error
            break
    raise InputError(
        f'{path} is not a plain pickle of lists, dicts, numbers and text: '
        f'{str(reason) or type(reason).__name__}. Nothing in it was run; get the file again from a source '
        'that you trust'
    )


def load_refs(path: str) -> list[dict]:
    """Read the references of RefCOCO, RefCOCO+ or RefCOCOg, such as `refs(unc).p`.

    The layout is that of REFER (https://github.com/lichengunc/refer): a list of dicts with `ref_id`, `ann_id`,
    `image_id`, `category_id`, `split` and `sentences`, a list of dicts with `sent_id` and `sent`.

    Raises:
        InputError: The file is not a plain pickle, or an item lacks a key or has the wrong type.
    """
    refs = load_plain_pickle(path)
    if not isinstance(refs, list):
        raise InputError(f'{path}: expected a list of references, got {type(refs).__name__}')
    for index, ref in enumerate(refs):
        item = f'{path}: item {index}'
        _check_keys(ref, REF_KEYS, item)
        if not isinstance(ref['split'], str):
            raise InputError(f'{item}: "split" must be text, got {type(ref["split"]).__name__}')
        if not isinstance(ref['sentences'], list):
            raise InputError(f'{item}: "sentences" must be a list, got {type(ref["sentences"]).__name__}')
        for number, sentence in enumerate(ref['sentences']):
            _check_keys(sentence, SENTENCE_KEYS, f'{item}, sentence {number}')
            if not isinstance(sentence['sent'], str):
                raise InputError(
                    f'{item}, sentence {number}: "sent" must be text, got {type(sentence["sent"]).__name__}'
                )
    return refs


def _check_keys(record: Any, keys: tuple, item: str) -> None:
    """Raise InputError if a key is missing, or an id is neither an integer nor, as in RefCLEF, text."""
    if not isinstance(record, dict):
        raise InputError(f'{item}: expected a dict, got {type(record).__name__}')
    for key in keys:
        if key not in record:
            raise InputError(f'{item} has no key "{key}"')
        if key.endswith('_id') and not isinstance(record[key], (int, str)):
            raise InputError(f'{item}: "{key}" must be a number, got {type(record[key]).__name__}')


def load_grefs(path: str) -> list[dict]:
    """Read the references of gRefCOCO, `grefs(unc).json`.

    The file is a list of dicts with `ref_id`, `image_id`, `split`, `sentences`, and with `ann_id` and `category_id`, a
    list of ids or one id. No target is `[-1]` or `-1`, in some copies `no_target`.

    Returns:
        The references that have a sentence. Their `ann_id` and `category_id` are tuples, () for no target.

    Raises:
        InputError: The file is not JSON, or an item lacks a key or has the wrong type.
    """
    try:
        refs = load_json(path)
    except ValueError as error:
        raise InputError(
            f'{path} is not JSON: {error}. gRefCOCO has grefs(unc).json; the pickles of RefCOCO are for RefCOCODataset'
        ) from error
    if not isinstance(refs, list):
        raise InputError(f'{path}: expected a list of references, got {type(refs).__name__}')
    refs = [_normalize(ref, f'{path}: item {index}') for index, ref in enumerate(refs)]
    # "You can skip those refs": https://github.com/henghuiding/gRefCOCO/issues/8
    return [ref for ref in refs if ref['sentences']]


def _normalize(ref: dict, item: str) -> dict:
    """A checked reference, with the ids of its objects and categories as tuples."""
    try:
        _check(ref, GREF_TYPES)
        for sentence in ref['sentences']:
            _check(sentence, GREF_SENTENCE_TYPES)
        return dict(ref, **{key: () if ref.get('no_target') else _ids(ref, key) for key in ('ann_id', 'category_id')})
    except KeyError as error:
        raise InputError(
            f'{item} is not a reference of gRefCOCO: it, or one of its sentences, has no key {error}'
        ) from error
    except (AttributeError, TypeError) as error:
        raise InputError(f'{item} is not a reference of gRefCOCO: {error}') from error


def _check(record: dict, types: dict[str, type]) -> None:
    for key, kind in types.items():
        if not isinstance(record[key], kind):
            raise TypeError(f'"{key}" must be of type {kind.__name__}, got {reprlib.repr(record[key])}')


def _ids(ref: dict, key: str) -> tuple[int, ...]:
    ids = ref[key] if isinstance(ref[key], list) else [ref[key]]
    if not all(type(one) is int for one in ids):
        raise TypeError(f'"{key}" must be a number or a list of numbers, got {reprlib.repr(ref[key])}')
    return tuple(one for one in ids if one != -1)


def load_json(path: str) -> Any:
    """The content of a JSON file; ValueError if it is not JSON."""
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
