"""Readers of reference files: RefCOCO and sets in its format. Pickles are read without running code in them."""

import io
import json
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

from ..errors import InputError

Types = dict[str, Any]
# RefCLEF has texts as ids.
ID = (int, str)
REF_TYPES: Types = dict(ref_id=ID, ann_id=ID, image_id=ID, category_id=ID, split=str, sentences=list)
SENTENCE_TYPES: Types = dict(sent_id=ID, sent=str)
GREF_TYPES: Types = dict(ref_id=int, image_id=int, split=str, sentences=list)
GREF_SENTENCE_TYPES: Types = dict(sent_id=int, sent=str)
ZOM_TYPES: Types = dict(ref_id=ID, image_id=ID, split=str, source=str, sentences=list)
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
    return _plain_refs(load_plain_pickle(path), path)


def _plain_refs(refs: Any, path: str) -> list[dict]:
    _check_refs(refs, path, REF_TYPES, dict(sent_id=ID))
    for index, ref in enumerate(refs):
        if 'source' in ref:
            raise InputError(
                f'{path}: item {index} has a source, {json.dumps(ref["source"])}: the file is of Ref-ZOM, which '
                'RefZOMDataset reads'
            )
        if not all(map(_exists, ref['sentences'])):
            raise InputError(
                f'{path}: item {index} has a sentence without a target ("exist" is false): the file is of R-RefCOCO, '
                'which RRefCOCODataset reads'
            )
    # Last, as another set may have sentences without `sent`.
    _check_refs(refs, path, {}, SENTENCE_TYPES)
    return refs


def split_names(split: str) -> list[str]:
    """The splits that the split of a reference names: in RefCLEF (unc), whose test sets overlap, several.

    A reference with the split "testAB" is in testA and in testB.
    """
    letters = split[len('test') :] if split.startswith('test') else ''
    return [f'test{letter}' for letter in letters] if set(letters) <= set('ABC') and len(letters) > 1 else [split]


def load_robust_refs(path: str) -> list[dict]:
    """Read the references of R-RefCOCO, R-RefCOCO+ or R-RefCOCOg, such as `refs(unc).p`.

    The layout is that of RefCOCO. A sentence whose `exist` is false means nothing in the image; without the key it has
    the reference's target.

    Returns:
        The references. One with sentences of both kinds becomes two with the same `ref_id`, the second without a
        target: `ann_id` and `category_id` are tuples, () for no target. Sentences have the `kind` positive or negative.

    Raises:
        InputError: As in `load_refs`.
    """
    return _robust_refs(load_plain_pickle(path), path)


def _robust_refs(refs: Any, path: str) -> list[dict]:
    _check_refs(refs, path, REF_TYPES, dict(sent_id=ID))
    for index, ref in enumerate(refs):
        ref['sentences'] = _with_text(ref, f'{path}: item {index}')
    return [
        dict(
            ref,
            ann_id=(ref['ann_id'],) if exists else (),
            category_id=(ref['category_id'],) if exists else (),
            sentences=[dict(sentence, kind=kind) for sentence in ref['sentences'] if _exists(sentence) == exists],
        )
        for ref in refs
        for kind, exists in (('positive', True), ('negative', False))
        if any(_exists(sentence) == exists for sentence in ref['sentences'])
    ]


def _exists(sentence: dict) -> bool:
    return bool(sentence.get('exist', True))


def load_zom_refs(path: str) -> list[dict]:
    """Read the references of Ref-ZOM, `refs(final).p`.

    The layout is that of RefCOCO, except that `ann_id` is one id or a list, and that there is a `source`: with `zero`
    the sentences mean nothing, whatever the `ann_id`. The authors' reader uses the `raw` of a sentence; here that is
    only for a sentence without `sent`.

    Returns:
        The references. `ann_id` and `category_id` are tuples, () for no target. Sentences have the `kind` zero, one or
        many, by the number of objects.

    Raises:
        InputError: As in `load_refs`, or a reference of another source has no object.
    """
    return _zom_refs(load_plain_pickle(path), path)


def _zom_refs(refs: Any, path: str) -> list[dict]:
    _check_refs(refs, path, ZOM_TYPES, dict(sent_id=ID))
    found = []
    for index, ref in enumerate(refs):
        item = f'{path}: item {index}'
        ann_id = () if ref['source'] == 'zero' else _ids(ref, 'ann_id', item)
        if not ann_id and ref['source'] != 'zero':
            raise InputError(f'{item} has no object, but its source is {json.dumps(ref["source"])}, not "zero"')
        # The authors' reader does not use categories, so any value is taken.
        categories = ref.get('category_id') if ann_id else []
        categories = categories if isinstance(categories, list) else [categories]
        kind = ('zero', 'one', 'many')[min(len(ann_id), 2)]
        sentences = [dict(one, kind=kind) for one in _with_text(ref, item)]
        ids = tuple(one for one in categories if type(one) is int)
        found.append(dict(ref, ann_id=ann_id, category_id=ids, sentences=sentences))
    return found


def _with_text(ref: dict, item: str) -> list[dict]:
    """The sentences of a reference, whose `sent` may be missing if there is a `raw`, which its authors read."""
    sentences = [dict(one, sent=one.get('sent', one.get('raw'))) for one in ref['sentences']]
    for number, sentence in enumerate(sentences):
        check_types(sentence, SENTENCE_TYPES, f'{item}, sentence {number}')
    return sentences


def load_any_refs(path: str) -> list[dict]:
    """Read the references of RefCOCO, R-RefCOCO, Ref-ZOM or gRefCOCO, told apart by their content.

    Raises:
        InputError: As in the function for the set.
    """
    if path.endswith('.json'):
        return load_grefs(path)
    refs = load_plain_pickle(path)
    items = [ref for ref in refs if isinstance(ref, dict)] if isinstance(refs, list) else []
    if any('source' in ref for ref in items):
        return _zom_refs(refs, path)
    sentences = (one for ref in items if isinstance(ref.get('sentences'), list) for one in ref['sentences'])
    if any('exist' in one for one in sentences if isinstance(one, dict)):
        return _robust_refs(refs, path)
    return _plain_refs(refs, path)


def _check_refs(refs: Any, path: str, ref_types: Types, sentence_types: Types) -> None:
    """Raise InputError unless `refs` is a list of dicts whose keys and sentences have these types."""
    if not isinstance(refs, list):
        raise InputError(f'{path}: expected a list of references, got {type(refs).__name__}')
    for index, ref in enumerate(refs):
        item = f'{path}: item {index}'
        check_types(ref, ref_types, item)
        for number, sentence in enumerate(ref['sentences']):
            check_types(sentence, sentence_types, f'{item}, sentence {number}')


# What the types of a key are called in errors, if not a number.
_NEEDED = {
    str: 'text',
    list: 'a list',
    dict: 'an object',
    (list, dict): 'a list or an object',
    ID: 'a number or text',
    (bool, int): 'true or false',
}


def check_types(record: Any, types: Types, item: str) -> None:
    """Raise InputError unless `record` is a dict whose keys have these types; `item` names it."""
    if not isinstance(record, dict):
        raise InputError(f'{item}: expected a dict, got {type(record).__name__}')
    for key, kind in types.items():
        if key not in record:
            raise InputError(f'{item} has no key "{key}"')
        if not isinstance(record[key], kind):
            needed = _NEEDED.get(kind, 'a number')
            raise InputError(f'{item}: "{key}" must be {needed}, got {reprlib.repr(record[key])}')


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
    _check_refs(refs, path, GREF_TYPES, GREF_SENTENCE_TYPES)
    for index, ref in enumerate(refs):
        for key in ('ann_id', 'category_id'):
            ref[key] = () if ref.get('no_target') else _ids(ref, key, f'{path}: item {index}')
    # "You can skip those refs": https://github.com/henghuiding/gRefCOCO/issues/8
    return [ref for ref in refs if ref['sentences']]


def _ids(ref: dict, key: str, item: str) -> tuple[int, ...]:
    ids = ref.get(key)
    ids = ids if isinstance(ids, list) else [ids]
    if not all(type(one) is int for one in ids):
        raise InputError(f'{item}: "{key}" must be a number or a list of numbers, got {reprlib.repr(ref.get(key))}')
    return tuple(one for one in ids if one != -1)


def load_records(path: str, types: Types, name: str) -> list[dict]:
    """The content of a JSON file, a list of dicts whose keys have these types; a message calls each by `name`.

    Raises:
        InputError: The file is not JSON, or an item lacks a key or has the wrong type.
    """
    try:
        records = load_json(path)
    except ValueError as error:
        raise InputError(f'{path} is not JSON: {error}') from error
    if not isinstance(records, list):
        raise InputError(f'{path}: expected a list, got {type(records).__name__}')
    for index, record in enumerate(records):
        check_types(record, types, f'{path}: {name} {index}')
    return records


def load_json(path: str, object_hook: Callable[[dict], Any] | None = None, encoding: str = 'utf-8') -> Any:
    """The content of a JSON file, its objects replaced by those of the hook; ValueError if it is not JSON."""
    try:
        with open(path, encoding=encoding) as file:
            return json.load(file, object_hook=object_hook)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
