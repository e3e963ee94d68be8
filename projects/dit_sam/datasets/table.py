"""Table of a referring data set: plain arrays, in memory and in one file without pickle.

The file is a `.safetensors` file of one-dimensional arrays. A column of texts, masks or lists is stored as its values,
concatenated, and, under its name with `.ends`, the end of each entry, int64. Groups of columns with equal numbers of
rows:

    images.id          int64, or UTF-8 text              targets.ann_id   int64, text, or lists of int64
    images.file_name   UTF-8 text                        targets.mask     COCO's compressed RLE, of its image's size
    images.height      int64, pixels                     targets.outlines UTF-8 text of JSON, may be missing
    images.width       int64, pixels                     targets.ignored  RLE of the pixels that do not count
    images.coco_id     int64, 0 if not of COCO           sentences.sent_id   int64, or UTF-8 text
    references.ref_id, references.category_id            sentences.text      UTF-8 text
    references.image, references.target: rows there      sentences.kind      UTF-8 text, may be missing
    references.sentences: end of the rows of its sentences
    sentences.raw: UTF-8 text as its author typed it, empty if equal to the text; may be missing

`images.coco_id` is there if the ids are another collection's, `targets.ignored` if some target has such pixels.

The header's `dit_sam` is JSON: `format`, `version`, `dataset`, `partition`, `split`, `source`, `counts`.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import InputError
from ..utils import atomic_write, wrap_write_errors
from .columns import IGNORED, KEYS, KIND, MASKS, OUTLINES, RAW, Column, Ragged, check_columns
from .masks import check_rle

FORMAT = 'dit_sam referring table'
VERSION = 1


class ReferringTable:
    """Images, targets, references and sentences of one split, by row; read only.

    Forked data-loading workers share it: no row is a Python object whose reference count they would change.

    Args:
        columns: Arrays and `Ragged` arrays under the names in this module's docstring.
        header: `dataset`, `partition`, `split` and `source`, as far as known.

    Raises:
        InputError: A column is missing or does not fit the others.
    """

    def __init__(self, columns: dict[str, Column], header: dict | None = None) -> None:
        self.columns: dict[str, Any] = columns
        self.header = dict(header or {})
        check_columns(columns)

    def __deepcopy__(self, memo: dict) -> 'ReferringTable':
        """The table itself: mmengine copies a data set to make a subset, and the copies share the table."""
        return self

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of images, references, sentences and masks."""
        groups = dict(images='images', references='references', sentences='sentences', masks='targets')
        return {name: self.rows(group) for name, group in groups.items()}

    def rows(self, group: str) -> int:
        return len(self.columns[KEYS[group]])

    def value(self, name: str, row: int) -> Any:
        """An entry as a plain int, text, bytes or tuple of ints."""
        column = self.columns[name]
        entry = column[row]
        if isinstance(column, np.ndarray):
            return int(entry)
        if entry.dtype != np.uint8:
            return tuple(entry.tolist())
        return entry.tobytes() if name in MASKS else entry.tobytes().decode()

    def reference(self, row: int) -> dict:
        """The keys that all items of a reference share.

        Raises:
            InputError: A mask is not an RLE of the size of the image, or the outlines are not JSON.
        """
        image, target = (self.value(f'references.{name}', row) for name in ('image', 'target'))
        size = [self.value(f'images.{name}', image) for name in ('height', 'width')]
        ann_id, counts = self.value('targets.ann_id', target), self.value('targets.mask', target)
        try:
            check_rle(counts, *size)
            more = dict(outlines=json.loads(self.value(OUTLINES, target))) if OUTLINES in self.columns else {}
            if IGNORED in self.columns and (ignored := self.value(IGNORED, target)):
                check_rle(ignored, *size)
                more['ignored'] = dict(size=size, counts=ignored)
        except (RecursionError, ValueError) as error:
            raise InputError(f'annotation {ann_id} {error}') from error
        return dict(
            **more,
            img_id=self.value('images.id', image),
            file_name=self.value('images.file_name', image),
            ref_id=self.value('references.ref_id', row),
            ann_id=ann_id,
            category_id=self.value('references.category_id', row),
            # By annotation, not by pixels: an object without a pixel is still a target.
            no_target=ann_id == (),
            height=size[0],
            width=size[1],
            segmentation=dict(size=size, counts=counts),
        )

    def sentence(self, row: int) -> dict:
        """`sent_id`, `text` and, if there is one, `kind`.

        Raises:
            InputError: The sentence is blank.
        """
        sentence = dict(sent_id=self.value('sentences.sent_id', row), text=self.value('sentences.text', row))
        if not sentence['text'].strip():
            raise InputError(f'sentence {sentence["sent_id"]} is blank')
        kind = self._optional(KIND, row)
        return dict(sentence, kind=kind) if kind else sentence

    def raw(self, row: int) -> str:
        """A sentence as its author typed it, REFER's `raw`, or else its text."""
        return self._optional(RAW, row) or self.value('sentences.text', row)

    def _optional(self, name: str, row: int) -> str:
        return self.value(name, row) if name in self.columns else ''

    def sentence_rows(self, reference: int) -> tuple[int, int]:
        """The first row of a reference's sentences, and the row after the last."""
        ends = self.columns['references.sentences']
        return int(ends[reference - 1]) if reference else 0, int(ends[reference])

    def reference_of(self, sentence: int) -> int:
        """The row of a sentence's reference."""
        return int(np.searchsorted(self.columns['references.sentences'], sentence, side='right'))

    def save(self, path: str | Path) -> None:
        """Write the table to one file. The same table gives the same bytes; errors as in `wrap_write_errors`."""
        arrays = {}
        for name, column in self.columns.items():
            ragged = isinstance(column, Ragged)
            parts: dict[str, np.ndarray] = (
                {name: column.values, f'{name}.ends': column.ends} if ragged else {name: column}
            )
            arrays.update(parts)
        header = dict(format=FORMAT, version=VERSION, **self.header, counts=self.counts)
        with wrap_write_errors(path), atomic_write(path) as temporary:
            # One entry of metadata: safetensors keeps no order among several.
            temporary.write_bytes(save(arrays, metadata=dict(dit_sam=json.dumps(header, ensure_ascii=False))))

    @classmethod
    def open(cls, path: str | Path) -> 'ReferringTable':
        """The table of a file. Only the header is parsed.

        Raises:
            FileNotFoundError: The file does not exist.
            InputError: The file is damaged, of another kind or of another version.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f'{path} not found; tools/dataset_converters/refcoco.py writes such files')
        try:
            with safe_open(path, framework='np') as file:
                header = json.loads((file.metadata() or {}).get('dit_sam', '{}'))
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        # AttributeError: a type that numpy does not have.
        except (SafetensorError, AttributeError, RecursionError, TypeError, ValueError) as error:
            raise InputError(f'{path} is damaged or not a .safetensors file: {error}') from error
        if not isinstance(header, dict) or header.pop('format', None) != FORMAT:
            raise InputError(f'{path} holds no prepared data; tools/dataset_converters/refcoco.py writes such files')
        if header.pop('version', None) != VERSION:
            raise InputError(
                f'{path} is not of version {VERSION}, which this program reads; write it again '
                'with tools/dataset_converters/refcoco.py'
            )
        header.pop('counts', None)
        try:
            return cls(
                {
                    name: Ragged(array, arrays[f'{name}.ends']) if f'{name}.ends' in arrays else array
                    for name, array in arrays.items()
                    if not name.endswith('.ends')
                },
                header,
            )
        except InputError as error:
            raise InputError(f'{path} is damaged: {error}') from error
