"""RefCOCO-M: sentences of RefCOCO's val with masks that follow the edges."""

import os.path as osp
from collections.abc import Iterator
from glob import escape, glob
from itertools import count
from typing import Any

from mmseg.registry import DATASETS

from ..errors import InputError
from .columns import is_side
from .instances import checked_sentences, naming
from .masks import encode_segmentation
from .reference_files import ID, check_types
from .referring_dataset import ReferringDataset
from .table import ReferringTable
from .table_builder import TableBuilder

INSTALL = 'RefCOCO-M is in Parquet, which needs pyarrow: pip install "dit-sam[parquet]"'
ROW_TYPES = dict(image_id=int, file_name=str, samples=list)
SAMPLE_TYPES = dict(id=ID, category=str, sentences=list, mask=dict)


@DATASETS.register_module()
class RefCOCOMDataset(ReferringDataset):
    """RefCOCO-M in its original format, Parquet (Moondream, 2025). RefCOCOm, which has parts, is another set.

    A row is an image with its objects. The pictures in the files are not read: they are those of COCO train2014.
    `ann_id` and `ref_id` of an item are the object's id, `sent_id` counts the sentences from 0, and `category_id` is
    the name of the category.

    The layout is that of the set's card (https://huggingface.co/datasets/moondream/refcoco-m).

    Args:
        data_root: Root of the paths below.
        ann_file: The folder of the Parquet files, or one of them.
        data_prefix: `img_path` is the folder of the images.
        **kwargs: `pipeline`, `test_mode` and the others, as in `ReferringDataset`.

    Raises:
        FileNotFoundError: There is no Parquet file, or the image of an item that is accessed is missing.
        InputError: A file is damaged or in another format, or pyarrow is not installed.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = 'refcoco-m/data',
        data_prefix: dict = dict(img_path='train2014/'),
        **kwargs: Any,
    ) -> None:
        super().__init__(ann_file, data_root, data_prefix, **kwargs)

    def load_table(self) -> ReferringTable:
        """The table of all files."""
        builder, numbers = TableBuilder(), count()
        for item, row in self._rows():
            check_types(row, ROW_TYPES, item)
            _add_objects(builder, numbers, row, item)
        with naming(f'{self.ann_file}:'):
            return builder.build()

    def _rows(self) -> Iterator[tuple[str, dict]]:
        """The rows of the files, each with its name for messages."""
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as error:
            raise InputError(f'{INSTALL} ({error})') from error
        files = (
            [self.ann_file] if osp.isfile(self.ann_file) else sorted(glob(osp.join(escape(self.ann_file), '*.parquet')))
        )
        if not files:
            raise FileNotFoundError(f'No Parquet file of RefCOCO-M in {self.ann_file}; docs/test_sets.md has the link')
        for path in files:
            try:
                with parquet.ParquetFile(path) as file:
                    missing = ROW_TYPES.keys() - set(file.schema_arrow.names)
                    rows = [] if missing else file.read(list(ROW_TYPES)).to_pylist()
            except (ArrowException, OSError) as error:
                raise InputError(f'{path} is damaged or not Parquet: {error}') from error
            if missing:
                raise InputError(f'{path} is not of RefCOCO-M: it has no column "{min(missing)}"')
            yield from ((f'{path}: row {number}', row) for number, row in enumerate(rows))


def _add_objects(builder: TableBuilder, numbers: Iterator[int], row: dict, item: str) -> None:
    """The image of a row with its objects and sentences, which take the next `numbers`; `item` names the row."""
    image, size = None, [0, 0]
    for sample in row['samples']:
        check_types(sample, SAMPLE_TYPES, item)
        with naming(f'{item}: object {sample["id"]}'):
            if image is None:
                size = _size(sample['mask'])
                image = builder.add_image(row['image_id'], row['file_name'], *size)
            target = builder.add_target(sample['id'], encode_segmentation(sample['mask'], *size))
        with naming(f'{item}: object {sample["id"]},'):
            sentences = checked_sentences([dict(sent_id=next(numbers), sent=text) for text in sample['sentences']])
        builder.add_reference(sample['id'], sample['category'], image, target, sentences)


def _size(mask: dict) -> list[int]:
    size = mask.get('size')
    if not isinstance(size, list) or len(size) != 2 or not all(map(is_side, size)):
        raise InputError(f'has the size {size!r} of its mask: height and width in pixels are needed')
    return size
