"""Your own data: one JSON object per line with an image, sentences and a mask. docs/data.md has the format."""

import json
import os.path as osp
import reprlib
import shlex
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import join_path
from mmseg.registry import DATASETS

from ..errors import InputError
from .columns import MAX_SIDE, is_side, make_column
from .images import coco_number, image_size, read_mask
from .masks import encode_box, encode_mask, encode_segmentation, unite
from .referring_dataset import ReferringDataset
from .table import ReferringTable
from .table_builder import TableBuilder

# Of a value over several lines, and of a whole COCO file in one line.
LONGER_JSON = (
    'begins a longer JSON value, such as a COCO file: write one object a line; '
    '`python tools/dataset_converters/coco.py` converts COCO files'
)
TARGETS = ('segmentation', 'mask', 'bbox')
KEYS = (*TARGETS, 'image', 'sentence', 'sentences', 'height', 'width', 'image_id', 'category_id', 'kind')


@DATASETS.register_module()
class ReferringJSONDataset(ReferringDataset):
    """Your own sentences and masks, one JSON object per line.

    Items are as in `ReferringDataset`. `ref_id` and `ann_id` of an item are the number of its line, `sent_id`
    counts the sentences from 0. A mask image is read when its item is.

    Args:
        ann_file: The file, `.jsonl`. `tools/dataset_converters/check.py` lists its errors.
        data_root: Root of the paths.
        data_prefix: `img_path` is the folder of the images, `seg_map_path` that of the mask images.
        **kwargs: `pipeline`, `test_mode` and the others, as in `ReferringDataset`.

    Raises:
        FileNotFoundError: `ann_file` is missing, or the image of an item that is accessed.
        InputError: A line is not in the format, or a mask image does not fit.
    """

    def __init__(
        self, ann_file: str = '', data_root: str = '', data_prefix: dict = dict(img_path=''), **kwargs: Any
    ) -> None:
        super().__init__(ann_file, data_root, dict(dict(seg_map_path=''), **data_prefix), **kwargs)

    def load_table(self) -> ReferringTable:
        """The table of the lines. The mask of a line with a mask image is empty in it."""
        builder = _LinesTable(self.data_prefix['img_path'])
        for number, line in numbered_lines(self.ann_file):
            with naming_line(self.ann_file, number, self.data_prefix):
                builder.add(number, checked_record(line))
        if not builder.mask_files:
            raise InputError(f'{self.ann_file} has no lines; docs/data.md has the format')
        self._mask_files = make_column('mask', builder.mask_files)
        self._no_target = np.array(builder.no_target)
        return _TableOfLines(builder.build(), self._with_masks)

    def _with_masks(self) -> ReferringTable:
        """The table with the masks of mask images, and, if a line has no target, with () as its `ann_id`."""
        rows = range(self.table.rows('targets'))
        masks = [self._mask(row) or self.table.value('targets.mask', row) for row in rows]
        columns = dict(self.table.columns, **{'targets.mask': make_column('targets.mask', masks)})
        if self._no_target.any():
            numbers = [self.table.value('targets.ann_id', row) for row in rows]
            ids = [() if nothing else (number,) for number, nothing in zip(numbers, self._no_target)]
            columns['targets.ann_id'] = make_column('targets.ann_id', ids)
        return ReferringTable(columns, self.table.header)

    def _mask(self, row: int) -> bytes | None:
        """The compressed RLE of the mask image of a line, None without one."""
        name = self._mask_files[row].tobytes().decode()
        if not name:
            return None
        image = self.table.value('references.image', row)
        height, width = (self.table.value(f'images.{side}', image) for side in ('height', 'width'))
        try:
            return encode_mask(read_mask(join_path(self.data_prefix['seg_map_path'], name), height, width))
        except ValueError as error:
            number = self.table.value('references.ref_id', row)
            raise InputError(f'{self.ann_file}, line {number} {error}') from error

    def info(self, reference: int, sentence: int, idx: int) -> dict:
        """As in `ReferringDataset`, with the mask of a mask image if the line names one."""
        item = super().info(reference, sentence, idx)
        item['no_target'] = bool(self._no_target[reference])
        mask = self._mask(reference)
        if mask is not None:
            item['segmentation']['counts'] = mask
        return item


class _TableOfLines(ReferringTable):
    """A table without the masks of mask images, which are there in the file that `save` writes."""

    def __init__(self, table: ReferringTable, with_masks: Callable[[], ReferringTable]) -> None:
        super().__init__(table.columns, table.header)
        self._with_masks = with_masks

    def save(self, path: str | Path) -> None:
        self._with_masks().save(path)


class _LinesTable:
    """A growing table of lines.

    Args:
        folder: Folder of the images, to look up sizes that a line leaves out.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.mask_files: list[str] = []
        self.no_target: list[bool] = []
        self._builder = TableBuilder()
        self._images: dict[str, tuple[int, int, int]] = {}

    def add(self, number: int, record: dict) -> None:
        """Add the record of a line; the message of a ValueError is a predicate of the line."""
        name = record['image']
        if name not in self._images:
            height, width = size_of(record, self.folder)
            self._images[name] = (self._builder.add_image(image_id(record), name, height, width), height, width)
        image, *size = self._images[name]
        if 'height' in record and [record['height'], record['width']] != size:
            raise ValueError(
                f'gives {name} the size {record["height"]} x {record["width"]} (height x width), a line '
                f'before it {size[0]} x {size[1]}'
            )
        self.mask_files.append(record.get('mask', ''))
        self.no_target.append(means_nothing(record))
        target = self._builder.add_target(number, mask_of(record, *size))
        kind = dict(kind=record['kind']) if 'kind' in record else {}
        first = self._builder.rows('sentences')
        sentences = [
            dict(sent_id=first + index, text=text, **kind) for index, text in enumerate(record_sentences(record))
        ]
        self._builder.add_reference(number, record.get('category_id', 0), image, target, sentences)

    def build(self) -> ReferringTable:
        return self._builder.build()


def numbered_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1 on; FileNotFoundError without the file."""
    if not osp.isfile(path):
        raise FileNotFoundError(f'Lines of JSON not found: {path or "ann_file is empty"}; docs/data.md has the format')
    with open(path, 'rb') as file:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())


@contextmanager
def naming_line(path: str, number: int, folders: Mapping[str, str] = {}) -> Iterator[None]:
    """Context in which a ValueError, a predicate of a line, becomes an InputError with file and line.

    `folders` are those of the images and the mask images, as in `data_prefix`.
    """
    command = ['python', 'tools/dataset_converters/check.py', path]
    for option, key in ('--images', 'img_path'), ('--masks', 'seg_map_path'):
        # By default they are in the folder of the file.
        folder = folders[key].rstrip('/') or '.' if key in folders else None
        command += [option, folder] if folder not in (None, osp.dirname(path) or '.') else []
    try:
        yield
    except ValueError as error:
        raise InputError(f'{path}, line {number} {error}. `{shlex.join(command)}` lists all errors') from error


def checked_record(line: bytes) -> dict:
    """The record of a line; ValueError with its first error."""
    record, problems = parse_line(line)
    if problems:
        raise ValueError(problems[0])
    return record


def parse_line(line: bytes) -> tuple[Any, list[str]]:
    """The record of a line, and a list of its errors; the image is not opened."""
    try:
        record = json.loads(line.decode('utf-8-sig'))  # the first line may begin with a byte order mark
        if b'\\u' in line:  # the only way to write a lone surrogate, which no text file can hold
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return None, [f'is not UTF-8 ({error}): save the file with this encoding']
    except (ValueError, RecursionError) as error:
        is_first_of_several = line.removeprefix(BOM_UTF8).strip() in (b'{', b'[')
        return None, [LONGER_JSON if is_first_of_several else f'is not JSON: {error}']
    if isinstance(record, dict) and {'images', 'annotations'} <= record.keys():
        return None, [LONGER_JSON]
    if not isinstance(record, dict):
        return None, [f'is not a JSON object but {type(record).__name__}']
    return record, list(_problems(record))


def _problems(record: dict) -> Iterator[str]:
    if not _is_text(record.get('image')):
        yield 'has no "image", the path of an image'
    if ('sentence' in record) == ('sentences' in record):
        yield 'needs either "sentence", a text, or "sentences", a list of texts'
    elif not isinstance(record_sentences(record), list) or not record_sentences(record):
        yield 'has "sentences" that are not a list of texts, or an empty list'
    else:
        yield from (
            f'has a sentence that is blank or not text: {reprlib.repr(text)}'
            for text in record_sentences(record)
            if not _is_text(text)
        )
    named = [key for key in TARGETS if key in record]
    if len(named) != 1:
        yield f'needs one of "{TARGETS[0]}", "{TARGETS[1]}" and "{TARGETS[2]}", has {" and ".join(named) or "none"}'
    if 'mask' in record and not _is_text(record['mask']):
        yield 'has a "mask" that is not the path of an image'
    sides = [record[key] for key in ('height', 'width') if key in record]
    if len(sides) == 1 or not all(map(is_side, sides)):
        yield f'needs both "height" and "width" or neither, in pixels from 1 to {MAX_SIDE}'
    for key, types, form in (
        ('image_id', (int, str), 'int or str'),
        ('category_id', (int,), 'int of 64 bits; a name may go into "kind"'),
        ('kind', (str,), 'str'),
    ):
        if key in record and (type(record[key]) not in types or key == 'category_id' and not _fits(record[key])):
            yield f'has {reprlib.repr(record[key])} as "{key}", which must be {form}'


def record_sentences(record: dict) -> Any:
    """The list of sentences of a line."""
    return [record['sentence']] if 'sentence' in record else record['sentences']


def image_id(record: dict) -> str:
    """The image id of a line, or else the COCO number of its image, or else the path of the image."""
    number = coco_number(record['image'])
    return str(record.get('image_id', record['image'] if number is None else number))


def size_of(record: dict, folder: str) -> tuple[int, int]:
    """Height and width from a line or else from its image; ValueError if that cannot be read."""
    if 'height' in record:
        return record['height'], record['width']
    return image_size(join_path(folder, record['image']))


def means_nothing(record: dict) -> bool:
    """Whether a line says that its sentences have no target."""
    return record.get('segmentation', '') is None


def mask_of(record: dict, height: int, width: int) -> bytes:
    """The compressed RLE of a line, empty for a mask image; the message of its ValueError is a predicate."""
    segmentation: list | dict | None = record.get('segmentation')
    if 'bbox' in record:
        return encode_box(record['bbox'], height, width)
    if segmentation is None:
        return unite([], height, width)
    if not isinstance(segmentation, (list, dict)):
        raise ValueError(
            f'has {reprlib.repr(segmentation)} as "segmentation": polygons, an RLE, or null for no target is needed'
        )
    return encode_segmentation(segmentation, height, width)


def _fits(value: int) -> bool:
    """Whether an int fits a column."""
    return -(2**63) <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
