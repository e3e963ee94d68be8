"""REFER's reference files, read without ever running what is in them."""

import io
import json
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

from ..errors import InputError

REF_KEYS = ('ref_id', 'ann_id', 'image_id', 'category_id', 'split', 'sentences')
SENTENCE_KEYS = ('sent_id', 'sent')
# The opcodes of plain data by their names in `pickle`, and those whose refusal names what they ask for.
OPCODES = (
    'PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET '
    'NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING '
    'UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 '
    'EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS '
    'GLOBAL STACK_GLOBAL INST EXT1 EXT2 EXT4 PERSID'
).split()


def _refuse(_: Any) -> None:
    raise pickle.UnpicklingError('it holds an instruction that plain data has no use for')


def _build_list(size: int) -> Callable:
    """What TUPLE1 to TUPLE3 do here."""

    def load(unpickler: Any) -> None:
        unpickler.stack[-size:] = [unpickler.stack[-size:]]

    return load


class PlainUnpickler(pickle._Unpickler):
    """An unpickler that builds numbers, text, lists and dicts and nothing else.

    A pickle can only run code through an object that it looks up by name. Every look-up is refused here, and so are
    persistent ids and the instructions that call or change objects. Tuples become lists.

    The unpickler is Python's own in Python. The one in C is three times faster, and a few bytes make it fill all memory
    (a large number of a memo entry), crash, or run for ever (a key of nested tuples).

    Raises:
        pickle.UnpicklingError: When the stream asks for anything else.
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

    Args:
        path (str): The file.

    Raises:
        InputError: When the file is no complete pickle or holds anything but plain data.
    """
    with open(path, 'rb') as file:
        data = file.read()
    # Python 2 wrote its byte strings without an encoding. Nearly all of them are ASCII; UTF-8 reads the few accents
    # that came from web forms, and Latin-1, which accepts every byte, is left for files that are not UTF-8.
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
    """Read the references of RefCOCO, RefCOCO+ or RefCOCOg, such as ``refs(unc).p``.

    The layout is that of REFER (https://github.com/lichengunc/refer): a list of dicts with ``ref_id``, ``ann_id``,
    ``image_id``, ``category_id``, ``split`` and ``sentences``, a list of dicts with ``sent_id`` and ``sent``.

    Args:
        path (str): The file.

    Raises:
        InputError: When the file is no plain pickle, or an item lacks a key or has the wrong type.
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
    """Ids are integers, or text in RefCLEF; both can be looked up."""
    if not isinstance(record, dict):
        raise InputError(f'{item}: expected a dict, got {type(record).__name__}')
    for key in keys:
        if key not in record:
            raise InputError(f'{item} has no key "{key}"')
        if key.endswith('_id') and not isinstance(record[key], (int, str)):
            raise InputError(f'{item}: "{key}" must be a number, got {type(record[key]).__name__}')
