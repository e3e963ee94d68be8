"""Predictions of any model: lines of JSON, or a folder of PNG files."""

import json
import os
import os.path as osp
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..datasets.columns import is_side
from ..datasets.images import image_size, name_of_2017, read_mask
from ..datasets.masks import decode_segmentation, encode_mask, encode_segmentation, unite
from ..errors import InputError, printable
from ..evaluation.mask_writer import mask_name
from ..evaluation.protocols import touched
from ..utils import name_part
from .truths import Truths

# Where a line may have its mask; `prediction` is what the dump of ReferringIoU calls it.
MASK_KEYS = ('segmentation', 'mask', 'prediction')
# Longest message about an answer, which may hold a text of any length.
MAX_MESSAGE = 400
# Most pixels of a mask that is resized to its picture.
MAX_RESIZED = 2**26
# What can be wrong with an answer. A sentence without an answer that can be used counts as an empty mask.
PROBLEMS = dict(
    truncated='is not JSON: write one object a line',
    incomplete='lacks a key: "sent_id", or "image" and "sentence"; and "segmentation" or "mask"',
    unknown='is for a sentence that the data do not have',
    duplicate='answers a sentence a second time; the first answer counts',
    size='has a mask of another size than the picture',
    damaged='has a mask that does not decode',
    missing='has no answer',
)


class WrongSize(ValueError):
    """A mask has another size than its picture."""


@dataclass
class Problems:
    """The problems of a file of predictions: how many of each kind, and where the first one is."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str, detail: str = '') -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind not in self.first:
            self.first[kind] = printable(f'{where} {detail or PROBLEMS[kind]}'[:MAX_MESSAGE])

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [
            f'{kind}: {self.counts[kind]:,}, the first: {self.first[kind]}' for kind in PROBLEMS if kind in self.counts
        ]


@dataclass(frozen=True)
class Answer:
    """The predicted mask of a sentence.

    Attributes:
        where: File and line, for messages.
        row: The row of the sentence in the data.
        rle: COCO's compressed RLE of the size of the picture.
        score: What the model says about the mask, if it says something.
    """

    where: str
    row: int
    rle: dict[str, Any]
    score: float | None = None


def read_answers(path: str, truths: Truths, problems: Problems, resize: str = 'none') -> Iterator[Answer]:
    """The answers of a file or folder in its order; whatever is wrong is counted, and nothing is skipped silently.

    An answer whose mask cannot be used, and a sentence without an answer, give empty masks. Sentences without an answer
    come last.

    Args:
        path: A file with an object a line, with `sent_id`, or `image` and `sentence`; and `segmentation` (COCO's RLE or
            polygons; null for nothing) or `mask`, the path of a PNG, relative to the file. Or a folder of PNG files,
            `{image}_{sent_id}.png` as `tools/test.py --out` writes them, or `{sent_id}.png`.
        truths: The sentences.
        problems: Takes what is wrong.
        resize: What happens to a mask of another size than the picture, of `RESIZES`. `none` counts it as a problem.

    Raises:
        FileNotFoundError: There is no such file or folder.
        InputError: A folder has no PNG file.
    """
    if not osp.exists(path):
        raise FileNotFoundError(f'predictions {path} not found: name a file of JSON lines, or a folder of PNG files')
    answered = np.zeros(len(truths), dtype=bool)
    # Of the mask, to tell a second answer that is the same from one that is not.
    digests = np.zeros(len(truths), dtype=np.int64)
    records = _records_of_folder(path, truths, problems) if osp.isdir(path) else _records_of_file(path, problems)
    for where, record in records:
        rows = record['rows'] if 'rows' in record else truths.find(record)
        if not rows:
            problems.add('unknown', where, _unknown(record, truths))
            continue
        height, width = truths.of_row(rows[0]).size
        try:
            counts = _counts(record, height, width, osp.dirname(path), resize)
        except ValueError as error:
            problems.add('size' if isinstance(error, WrongSize) else 'damaged', where, str(error))
            counts = _empty(height, width)
        if answered[rows].all():
            if (digests[rows] != hash(counts)).any():
                problems.add('duplicate', where)
            continue
        rle = dict(size=[height, width], counts=counts)
        for row in (row for row in rows if not answered[row]):
            yield Answer(where, row, rle, _score(record.get('score')))
        answered[rows], digests[rows] = True, hash(counts)
    for row in np.flatnonzero(~answered).tolist():
        info = truths.info(row)
        problems.add('missing', f'sentence {info["sent_id"]} ("{info["text"]}") of {osp.basename(info["img_path"])}')
        size = truths.of_row(row).size
        yield Answer('', row, dict(size=list(size), counts=_empty(*size)))


def _records_of_file(path: str, problems: Problems) -> Iterator[tuple[str, dict]]:
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            where = f'line {number}'
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                problems.add('truncated', where)
                continue
            if not isinstance(record, dict):
                problems.add('incomplete', where)
                continue
            image = record.get('image', record.get('img_path'))
            image = str(image) if isinstance(image, (str, int)) else None
            named = record.get('sent_id') is not None or (isinstance(record.get('sentence'), str) and image)
            if not named or not any(key in record for key in MASK_KEYS):
                # A dump without masks.
                hint = 'has no mask: test again with test_evaluator.dump_masks=True' if 'iou' in record else ''
                problems.add('incomplete', where, hint)
                continue
            record = {key: record[key] for key in (*MASK_KEYS, 'sent_id', 'sentence', 'score') if key in record}
            yield where, dict(record, image=image)


def _records_of_folder(folder: str, truths: Truths, problems: Problems) -> Iterator[tuple[str, dict]]:
    """The files of a folder, in the order of the sentences; then those that belong to none."""
    left = {name for name in os.listdir(folder) if name.lower().endswith('.png')}
    if not left:
        raise InputError(f'folder {folder} has no PNG file: name the one that tools/test.py --out wrote')
    for row in range(len(truths)):
        info = truths.info(row)
        ident = info['sent_id']
        # The data set opens whichever of COCO's two files exists, and the mask has its name.
        images = dict.fromkeys([info['img_path'], name_of_2017(info['img_path'])])
        for name in (*(f'{mask_name(image, ident)}.png' for image in images), f'{name_part(ident)}.png'):
            if name in left:
                left.remove(name)
                yield f'file {name}', dict(rows=[row], mask=osp.join(osp.abspath(folder), name))
    for name in sorted(left):
        problems.add('unknown', f'file {name}')


def _unknown(record: dict, truths: Truths) -> str:
    sentence, image = reprlib.repr(record.get('sentence')), reprlib.repr(record.get('image'))
    if record.get('sent_id') is None:
        return f'is for {sentence} of {image}, which the data do not have'
    if truths.is_shared(record['sent_id']):
        return f'is for sent_id {record["sent_id"]!r}, which several sentences of the data have: add image and sentence'
    if truths.has(record['sent_id']):
        other = [f'another sentence in the data than {sentence}'] * bool(record.get('sentence'))
        other += [f'about another image than {image}'] * bool(record.get('image'))
        return f'is for sent_id {record["sent_id"]!r}, which is {", or ".join(other)}'
    return f'is for sent_id {reprlib.repr(record["sent_id"])}, which the data do not have'


def _score(value: Any) -> float | None:
    """A score from 0 to 1; None for anything else."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= 1 else None


def _counts(record: dict, height: int, width: int, folder: str, resize: str) -> bytes:
    """The counts of the RLE of a record's mask.

    Raises:
        ValueError: The mask cannot be used.
    """
    # A table with a column for each key has null in all but one.
    value: Any = next((record[key] for key in MASK_KEYS if record.get(key) is not None), None)
    if value is None or value == []:
        return _empty(height, width)
    size: tuple[int, int] = (height, width)
    if isinstance(value, str):
        path = osp.join(folder, value)
        size = image_size(path)
        if size == (height, width) or resize != 'none':
            return encode_mask(RESIZES[resize](read_mask(path, *size), height, width))
    elif isinstance(value, dict) and isinstance(value.get('size'), list) and len(value['size']) == 2:
        size = tuple(value['size'])
        if (
            size != (height, width)
            and resize != 'none'
            and all(map(is_side, size))
            and size[0] * size[1] <= MAX_RESIZED
        ):
            return encode_mask(RESIZES[resize](decode_segmentation(value, *size) == 1, height, width))
    elif not isinstance(value, (list, dict)):
        raise ValueError(f'has {reprlib.repr(value)} as a mask: an RLE, polygons or the path of a PNG are needed')
    if size != (height, width):
        raise WrongSize(f'has a mask of size {list(size)}, the picture has {[height, width]}')
    return encode_segmentation(value, height, width)


def _resize_as_dit(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    return touched(torch.from_numpy(np.ascontiguousarray(mask))[None], (height, width))[0].numpy()


def _resize_nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)) == 1


# How masks of another size are resized: bilinearly with every pixel above 0 inside, as the released DIT does with its
# masks at the network's input size; or by Pillow's nearest neighbor.
RESIZES: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = dict(
    none=lambda mask, *_: mask, dit=_resize_as_dit, nearest=_resize_nearest
)


def _empty(height: int, width: int) -> bytes:
    return unite([], height, width)
