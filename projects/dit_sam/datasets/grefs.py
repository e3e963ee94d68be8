"""gRefCOCO's reference file."""

import reprlib

from ..errors import InputError
from .instances import load_json

REF_TYPES = dict(ref_id=int, image_id=int, split=str, sentences=list)
SENTENCE_TYPES = dict(sent_id=int, sent=str)


def load_grefs(path: str) -> list[dict]:
    """Read the references of gRefCOCO, ``grefs(unc).json``: those of RefCOCO with several objects each.

    Args:
        path (str): The file: a list of dicts with ``ref_id``, ``image_id``, ``split``, ``sentences`` and ``ann_id`` and
            ``category_id``, a list of ids or one id. No target is ``[-1]`` or ``-1``, in some copies ``no_target``.

    Returns:
        list: The references that have a sentence; ``ann_id`` and ``category_id`` of each are tuples, () for no target.

    Raises:
        InputError: When the file is no JSON, or an item lacks a key or has the wrong type.
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
    """One reference after a check, with its objects and their categories as tuples."""
    try:
        _check(ref, REF_TYPES)
        for sentence in ref['sentences']:
            _check(sentence, SENTENCE_TYPES)
        return dict(ref, **{key: () if ref.get('no_target') else _ids(ref, key) for key in ('ann_id', 'category_id')})
    except KeyError as error:
        raise InputError(f'{item} is no reference of gRefCOCO: it, or a sentence of it, has no key {error}') from error
    except (AttributeError, TypeError) as error:
        raise InputError(f'{item} is no reference of gRefCOCO: {error}') from error


def _check(record: dict, types: dict[str, type]) -> None:
    for key, kind in types.items():
        if not isinstance(record[key], kind):
            raise TypeError(f'"{key}" must be of type {kind.__name__}, got {reprlib.repr(record[key])}')


def _ids(ref: dict, key: str) -> tuple[int, ...]:
    ids = ref[key] if isinstance(ref[key], list) else [ref[key]]
    if not all(type(one) is int for one in ids):
        raise TypeError(f'"{key}" must be a number or a list of numbers, got {reprlib.repr(ref[key])}')
    return tuple(one for one in ids if one != -1)
