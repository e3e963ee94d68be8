"""COCO instances, and the table of a list of references to them."""

import json
import os
import os.path as osp
import reprlib
from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

from ..errors import InputError
from .columns import MAX_SIDE, is_side
from .masks import encode_segmentation, unite
from .reference_files import load_json
from .table import ReferringTable
from .table_builder import TableBuilder

REMEDY = (
    '`python tools/dataset_converters/shapes.py --out data/shapes` makes the generated data '
    '(`--generalized --out data/gshapes` those of the gshapes configs); for RefCOCO see "Training on RefCOCO" in '
    'README.md'
)

Id = int | str
# By path and time.
_OPEN: 'WeakValueDictionary[tuple[str, int], Instances]' = WeakValueDictionary()


class Instances:
    """The images and masks of `instances.json`, in COCO's format.

    An image or annotation is checked when it is accessed. Polygons are kept as arrays, which take a quarter of the
    memory.

    Attributes:
        category_names: Names of the categories by their ids, as far as the file has them.

    Raises:
        FileNotFoundError: The file does not exist.
        InputError: The file, or an image or annotation that is accessed, is not in the format of COCO instances.
    """

    def __init__(self, path: str) -> None:
        require_file(path, 'Annotations')
        self.path = path
        try:
            content = load_json(path, _compact)
            self._images = _by_id(content['images'], ('file_name', 'height', 'width'))
            self._annotations = _by_id(
                content['annotations'], ('image_id', 'segmentation'), iscrowd=0, category_id=None
            )
        except KeyError as error:
            raise InputError(f'{path} is not in the format of COCO instances: the key {error} is missing') from error
        except (TypeError, ValueError) as error:
            raise InputError(f'{path} is not in the format of COCO instances: {error}') from error
        categories = content.get('categories') or []
        named = [one for one in categories if isinstance(one, dict) and isinstance(one.get('name'), str)]
        self.category_names = {one['id']: one['name'] for one in named if isinstance(one.get('id'), Hashable)}
        self._masks: dict[Id, bytes] = {}
        self._numbers: Counter | None = None

    def number_of(self, image_id: Id, category_id: Id) -> int:
        """How many objects of a category an image has, without crowds. Ids may be text."""
        if self._numbers is None:
            records = [record for record in self._annotations.values() if not isinstance(record, str) and not record[2]]
            self._numbers = Counter((str(record[0]), str(record[3])) for record in records)
        return self._numbers[str(image_id), str(category_id)]

    @classmethod
    def open(cls, path: str) -> 'Instances':
        """The instances of a file; those that something else holds open are not read again."""
        require_file(path, 'Annotations')
        key = os.path.abspath(path), os.stat(path).st_mtime_ns
        found = _OPEN.get(key)
        if found is None:
            found = _OPEN[key] = cls(path)
        return found

    def image(self, image_id: Id) -> tuple[str, int, int]:
        """File name, height and width in pixels."""
        name, *size = self._find(self._images, 'image_id', image_id)
        if not _is_text(name) or not all(map(is_side, size)):
            raise InputError(
                f'{self.path}: image {image_id} has the file_name {name!r}, height {size[0]!r} and width '
                f'{size[1]!r}: a text and two numbers of pixels from 1 to {MAX_SIDE} are needed'
            )
        return name, *size

    def mask(self, ann_id: Id | tuple[int, ...], image_id: Id, height: int, width: int) -> bytes:
        """The compressed RLE of an annotation, or of the union of several.

        As in the reader of gRefCOCO's authors (ReLA), crowds among several objects are left out. If all are crowds,
        where that reader fails, all count.
        """
        return unite([self._encode(one, image_id, height, width) for one in self._counting(ann_id)], height, width)

    def outlines(self, ann_id: Id | tuple[int, ...]) -> str:
        """JSON of the list of their segmentations, as in the file."""
        found = (self._find(self._annotations, 'ann_id', one)[1] for one in self._counting(ann_id))
        return json.dumps(list(map(_as_lists, found)))

    def _counting(self, ann_id: Id | tuple[int, ...]) -> Sequence[Id]:
        """The ids of the objects that count."""
        if not isinstance(ann_id, tuple):
            return [ann_id]
        return [one for one in ann_id if not self._is_crowd(one)] or ann_id

    def _is_crowd(self, ann_id: Id) -> bool:
        crowd = self._find(self._annotations, 'ann_id', ann_id)[2]
        if crowd not in (0, 1):
            raise InputError(
                f'{self.path}: annotation {ann_id!r} has the iscrowd {crowd!r}: the number 0 or 1 is needed'
            )
        return bool(crowd)

    def _encode(self, ann_id: Id, image_id: Id, height: int, width: int) -> bytes:
        of_image, segmentation, *_ = self._find(self._annotations, 'ann_id', ann_id)
        if of_image != image_id:
            raise InputError(
                f'{self.path}: annotation {ann_id!r} is of image {of_image!r}, not {image_id!r}'
                f'{_types(image_id, [of_image])}'
            )
        if ann_id not in self._masks:
            try:
                self._masks[ann_id] = encode_segmentation(_as_lists(segmentation), height, width)
            except ValueError as error:
                raise InputError(f'{self.path}: annotation {ann_id} {error}') from error
        return self._masks[ann_id]

    def _find(self, records: dict[Id, tuple | str], key: str, value: Id) -> tuple:
        if value not in records:
            raise InputError(
                f'{self.path} has no {key} {value!r}: the two files do not belong together{_types(value, records)}'
            )
        found = records[value]
        if isinstance(found, str):
            raise InputError(f'{self.path}: {key} {value!r} {found}')
        return found


def _compact(record: dict) -> dict:
    """A record of the file without what is not used, its polygons as arrays."""
    if 'segmentation' in record:
        for key in ('bbox', 'area'):
            record.pop(key, None)
        parts = record['segmentation']
        if isinstance(parts, list):
            record['segmentation'] = [_as_array(part) for part in parts]
    return record


def _as_array(polygon: Any) -> Any:
    """A polygon of floats as an array; anything else as it is, to be refused when it is accessed."""
    floats = isinstance(polygon, list) and all(type(value) is float for value in polygon)
    return array('d', polygon) if floats else polygon


def _as_lists(segmentation: Any) -> Any:
    if not isinstance(segmentation, list):
        return segmentation
    return [part.tolist() if isinstance(part, array) else part for part in segmentation]


def _types(value: Id, others: Iterable[Any]) -> str:
    """A hint that another id differs only in its type: 7 is not "7"."""
    alike = [other for other in others if str(other) == str(value)]
    return f', as {value!r} is {type(value).__name__} in one, {type(alike[0]).__name__} in the other' if alike else ''


def _by_id(items: list[dict], keys: tuple[str, ...], **defaults: Any) -> dict[Id, tuple | str]:
    """The values of some keys of each item, by its id, or an error message for that item.

    Raises:
        TypeError: The items are not a list.
    """
    if not isinstance(items, list):
        raise TypeError(f'a list of objects with {", ".join(keys)} is needed, got {type(items).__name__}')
    found: dict[Any, tuple | str] = {}
    for item in items:
        if not isinstance(item, dict):  # no reference can refer to it
            continue
        record: tuple | str
        try:
            record = (*[item[key] for key in keys], *[item.get(key, value) for key, value in defaults.items()])
        except KeyError as error:
            record = f'lacks the key {error}'
        # Nothing refers to an item without an id, or with a list as id.
        one = item.get('id')
        if isinstance(one, Hashable) and found.setdefault(one, record) != record:
            found[one] = 'occurs twice with different content'
    return found


def make_table(
    refs: list[dict], refs_file: str, instances: Instances, keep_outlines: bool = False, **header: Any
) -> ReferringTable:
    """The table of a list of references. The mask of an annotation is stored once, even with several references.

    Args:
        refs: References as in REFER; `ann_id` may be a tuple of ids.
        refs_file: Their file, for messages.
        instances: Their images and masks.
        keep_outlines: Also keep the segmentations as annotated.
        **header: Header of the table: `dataset`, `partition`, `split`, `source`.

    Raises:
        InputError: A reference is blank, incomplete, or without annotation or image.
    """
    builder = TableBuilder()
    images: dict[Id, int] = {}
    targets: dict[tuple, int] = {}
    for ref in refs:
        image_id, ann_id = ref['image_id'], ref['ann_id']
        try:
            name, height, width = instances.image(image_id)
            if image_id not in images:
                images[image_id] = builder.add_image(image_id, name, height, width)
            if (image_id, ann_id) not in targets:
                mask = instances.mask(ann_id, image_id, height, width)
                outlines = instances.outlines(ann_id) if keep_outlines else ''
                targets[image_id, ann_id] = builder.add_target(ann_id, mask, outlines)
            target = targets[image_id, ann_id]
            builder.add_reference(
                ref['ref_id'], ref['category_id'], images[image_id], target, checked_sentences(ref['sentences'])
            )
        except InputError as error:
            raise InputError(f'{error} (reference {ref["ref_id"]} of {refs_file})') from error
    try:
        return builder.build(**header)
    except InputError as error:
        raise InputError(f'{refs_file}: {error}') from error


def checked_sentences(sentences: list[dict]) -> list[dict]:
    """Sentences as in REFER, `sent_id` and `sent`, as `TableBuilder` takes them; InputError for the first wrong one."""
    if not sentences:
        raise InputError('no sentence')
    found = []
    for sentence in sentences:
        sent_id, text, raw = sentence['sent_id'], sentence['sent'], sentence.get('raw')
        # Only other programs read the text as typed by the author; it is ignored unless it is a string.
        raw = raw if isinstance(raw, str) and raw.strip() else ''
        if not isinstance(text, str):
            raise InputError(f'sentence {sent_id} is not text but {reprlib.repr(text)}')
        if not text.strip():
            raise InputError(f'sentence {sent_id} is blank')
        if not (_is_text(text) and (not raw or _is_text(raw))):
            raise InputError(f'sentence {sent_id} holds half a character: {text + raw!a}')
        found.append(dict(sent_id=sent_id, text=text, kind=sentence.get('kind', ''), raw=raw))
    return found


def _is_text(value: Any) -> bool:
    """Whether a value is text without lone surrogates, which JSON may contain."""
    try:
        return bool(value.encode())
    except (AttributeError, UnicodeEncodeError):
        return False


def require_file(path: str, role: str, remedy: str = REMEDY) -> None:
    if not osp.isfile(path):
        raise FileNotFoundError(f'{role} not found: {path}. {remedy}')


@contextmanager
def naming(item: str) -> Iterator[None]:
    """Context in which a ValueError, a predicate of an item, becomes an InputError that names it."""
    try:
        yield
    except ValueError as error:
        raise InputError(f'{item} {error}') from error
