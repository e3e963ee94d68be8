"""Your own data: one JSON object a line with an image, what is said, and what is meant. docs/data.md has the format."""

import json
import os.path as osp
import reprlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.fileio import join_path
from mmseg.registry import DATASETS

from ..errors import InputError
from .coco_names import coco_number
from .columns import MAX_SIDE, make_column
from .images import image_size, read_mask
from .masks import encode_box, encode_mask, encode_segmentation, unite
from .referring import ReferringDataset
from .table import ReferringTable, TableBuilder

TARGETS = ('segmentation', 'mask', 'bbox')


@DATASETS.register_module()
class ReferringJSONDataset(ReferringDataset):
    """Sentences and masks of your own, one JSON object a line.

    It differs from :class:`ReferringDataset` in the file; the items are the same. ``ref_id`` and ``ann_id`` of an item
    are the number of its line, ``sent_id`` counts the sentences from 0. Mask images are read when their item is.

    Args:
        ann_file (str): The file, `.jsonl`. ``tools/dataset_converters/check.py`` lists what is wrong in it.
        data_root (str): Root of the paths.
        data_prefix (dict): ``img_path`` is the folder of the images, ``seg_map_path`` that of the mask images.
        **kwargs: As in :class:`ReferringDataset`.

    Raises:
        FileNotFoundError: When ``ann_file`` is missing, or the image of an item that is asked for.
        InputError: When a line is not in the format, or a mask image does not fit.
    """

    def __init__(
        self, ann_file: str = '', data_root: str = '', data_prefix: dict = dict(img_path=''), **kwargs: Any
    ) -> None:
        super().__init__(ann_file, data_root, dict(dict(seg_map_path=''), **data_prefix), **kwargs)

    def load_table(self) -> ReferringTable:
        """The table of the lines. The mask of a line that names a mask image is left empty in it."""
        builder = _LinesTable(self.data_prefix['img_path'])
        for number, line in read_lines(self.ann_file):
            try:
                builder.add(number, line)
            except ValueError as error:
                raise InputError(
                    f'{self.ann_file}, line {number} {error}. `python tools/dataset_converters/check.py '
                    f'{self.ann_file}` lists all that is wrong'
                ) from error
        if not builder.mask_files:
            raise InputError(f'{self.ann_file} has no line; docs/data.md has the format')
        self._mask_files, self._no_target = make_column('mask', builder.mask_files), np.array(builder.no_target)
        return builder.build()

    def get_data_info(self, idx: int) -> dict:
        """The item ``idx``, with what its mask image shows."""
        item = super().get_data_info(idx)
        row = int(np.searchsorted(self.table.columns['references.ref_id'], item['ref_id']))
        item['no_target'] = bool(self._no_target[row])
        name = self._mask_files.entry(row).tobytes().decode()
        if name:
            try:
                mask = read_mask(join_path(self.data_prefix['seg_map_path'], name), item['height'], item['width'])
            except ValueError as error:
                raise InputError(f'{self.ann_file}, line {item["ref_id"]} {error}') from error
            item['segmentation']['counts'] = encode_mask(mask)
        return item


class _LinesTable:
    """Makes the table of lines.

    Args:
        folder: Folder of the images, for the size of those whose line does not say it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.mask_files: list[str] = []
        self.no_target: list[bool] = []
        self._builder = TableBuilder()
        self._images: dict[str, tuple[int, int, int]] = {}

    def add(self, number: int, line: bytes) -> None:
        """Add a line; raises ValueError that says of "it" what is wrong."""
        record, problems = parse_line(line)
        if problems:
            raise ValueError(problems[0])
        name = record['image']
        if name not in self._images:
            height, width = size_of(record, self.folder)
            self._images[name] = (self._builder.add_image(image_id(record), name, height, width), height, width)
        image, *size = self._images[name]
        if 'height' in record and [record['height'], record['width']] != size:
            raise ValueError(
                f'says that {name} is {record["height"]} x {record["width"]} (height x width), a line '
                f'before it {size[0]} x {size[1]}'
            )
        self.mask_files.append(record.get('mask', ''))
        self.no_target.append(means_nothing(record))
        target = self._builder.add_target(number, mask_of(record, *size))
        kind = dict(kind=record['kind']) if 'kind' in record else {}
        first = self._builder.rows('sentences')
        sentences = [dict(sent_id=first + index, text=text, **kind) for index, text in enumerate(sentences_of(record))]
        self._builder.add_reference(number, record.get('category_id', 0), image, target, sentences)

    def build(self) -> ReferringTable:
        return self._builder.build()


def read_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1 on.

    Raises:
        FileNotFoundError: When there is no such file.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'Lines of JSON not found: {path or "ann_file is empty"}; docs/data.md has the format')
    with open(path, 'rb') as file:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())


def parse_line(line: bytes) -> tuple[Any, list[str]]:
    """What a line holds, and all that is wrong with it as far as no image need be looked at."""
    try:
        record = json.loads(line.decode())
        if b'\\u' in line:  # the one way to half a character, which no file of text can hold
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return None, [f'is no JSON: {error}']
    if not isinstance(record, dict):
        return None, [f'is no JSON object but {type(record).__name__}']
    return record, list(_problems(record))


def _problems(record: dict) -> Iterator[str]:
    if not _is_text(record.get('image')):
        yield 'has no "image", the path of one'
    if ('sentence' in record) == ('sentences' in record):
        yield 'needs either "sentence", a text, or "sentences", a list of texts'
    elif not isinstance(sentences_of(record), list) or not sentences_of(record):
        yield '"sentences" is no list of texts or an empty one'
    else:
        yield from (
            f'has a sentence that is blank or no text: {reprlib.repr(text)}'
            for text in sentences_of(record)
            if not _is_text(text)
        )
    named = [key for key in TARGETS if key in record]
    if len(named) != 1:
        yield f'needs one of "{TARGETS[0]}", "{TARGETS[1]}" and "{TARGETS[2]}", has {" and ".join(named) or "none"}'
    if 'mask' in record and not _is_text(record['mask']):
        yield 'has a "mask" that is no path of an image'
    sides = [record[key] for key in ('height', 'width') if key in record]
    if len(sides) == 1 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        yield f'needs both or none of "height" and "width", pixels from 1 to {MAX_SIDE}'
    for key, types, form in (
        ('image_id', (int, str), 'int or str'),
        ('category_id', (int,), 'int of 64 bits'),
        ('kind', (str,), 'str'),
    ):
        if key in record and (type(record[key]) not in types or key == 'category_id' and not _fits(record[key])):
            yield f'has {reprlib.repr(record[key])} as "{key}", which is {form}'


def sentences_of(record: dict) -> Any:
    return [record['sentence']] if 'sentence' in record else record['sentences']


def image_id(record: dict) -> str:
    """The id that a line names, else COCO's for an image of COCO, else the path of the image."""
    number = coco_number(record['image'])
    return str(record.get('image_id', record['image'] if number is None else number))


def size_of(record: dict, folder: str) -> tuple[int, int]:
    """Height and width that a line says or, where it does not, its image; ValueError when that is of no use."""
    if 'height' in record:
        return record['height'], record['width']
    return image_size(join_path(folder, record['image']))


def means_nothing(record: dict) -> bool:
    """Whether a line says that its sentence has no target."""
    return record.get('segmentation', '') is None


def mask_of(record: dict, height: int, width: int) -> bytes:
    """The compressed RLE of a line, that of nothing for a mask image; ValueError says what is wrong."""
    segmentation: list | dict | None = record.get('segmentation')
    if 'bbox' in record:
        return encode_box(record['bbox'], height, width)
    if segmentation is None:
        return unite([], height, width)
    if not isinstance(segmentation, (list, dict)):
        raise ValueError(
            f'has {reprlib.repr(segmentation)} as "segmentation": polygons, an RLE, or null for no target are needed'
        )
    return encode_segmentation(segmentation, height, width)


def _fits(value: int) -> bool:
    """Whether a table can hold it."""
    return -(2**63) <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
