"""Images of val and test splits, which joint training must not see.

RefCOCO, RefCOCO+ and RefCOCOg split the same COCO train2014 images in different ways: a training image of one is a test
image of another.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.logging import print_log

from ..errors import InputError, log_warning
from .columns import COCO_ID
from .images import base_name, coco_number, coco_numbers
from .reference_files import load_any_refs, split_names
from .table import ReferringTable

Id = int | str
PATTERNS = ('refs(*).p', 'grefs(*).json', '*.safetensors')


class Picture(NamedTuple):
    """An image of a split: its id and file name, '' if unknown, and how many references and sentences it has there."""

    image_id: Id = ''
    file_name: str = ''
    references: int = 0
    sentences: int = 0


def evaluation_images(sources: Sequence[str]) -> frozenset[Id]:
    """All images in splits other than train: their numbers in COCO, or their ids if these are not numbers.

    Args:
        sources: Files, `refs(*).p`, `grefs(*).json` or prepared ones, or folders of such files.

    Raises:
        FileNotFoundError: A source does not exist.
        InputError: A folder holds no such file, or a file is damaged.
    """
    files = [file for source in sources for file in list_files(source, 'filter_cfg.evaluation_images')]
    return frozenset().union(*(_images(file, os.stat(file).st_mtime_ns) for file in files))


def list_files(source: str, option: str) -> list[str]:
    """The file itself, or the files of references and prepared files in a folder.

    Raises:
        FileNotFoundError: There is no such file or folder. The message names the `option` that asked for it.
        InputError: A folder holds no such file.
    """
    if os.path.isfile(source):
        return [source]
    if not os.path.isdir(source):
        raise FileNotFoundError(f'{option}: {source} not found; name files of references, or folders of such files')
    files = sorted(str(file) for pattern in PATTERNS for file in Path(source).glob(pattern))
    if not files:
        raise InputError(f'{option}: {source} holds none of {", ".join(PATTERNS)}')
    return files


def read_splits(file: str) -> dict[str, list[Picture]]:
    """The images of each split of a file of references or of a prepared file, whose split may be ''.

    Raises:
        InputError: The file is damaged or of another kind. Nothing in a pickle is run.
    """
    if file.endswith('.safetensors'):
        table = ReferringTable.open(file)
        return {str(table.header.get('split') or ''): _pictures_of(table)}
    splits: dict[str, dict[Id, Picture]] = {}
    counted: set[tuple[str, Id]] = set()
    for ref in load_any_refs(file):
        for split in split_names(ref['split']):
            pictures = splits.setdefault(split, {})
            # One of R-RefCOCO is read as two, with and without a target.
            new = (split, ref['ref_id']) not in counted
            counted.add((split, ref['ref_id']))
            known = pictures.get(ref['image_id']) or Picture(ref['image_id'], _file_name_of(ref))
            pictures[ref['image_id']] = known._replace(
                references=known.references + new, sentences=known.sentences + len(ref['sentences'])
            )
    return {split: list(pictures.values()) for split, pictures in splits.items()}


def _pictures_of(table: ReferringTable) -> list[Picture]:
    images, number = table.columns['references.image'], table.rows('images')
    sentences = np.diff(table.columns['references.sentences'], prepend=0)
    counts = (
        np.bincount(images, minlength=number).tolist(),
        np.bincount(images, weights=sentences, minlength=number).astype(int).tolist(),
    )
    ids, names = ([table.value(f'images.{key}', row) for row in range(number)] for key in ('id', 'file_name'))
    # What is known to be COCO's goes by its number there.
    if COCO_ID in table.columns:
        numbers = [table.value(COCO_ID, row) for row in range(number)]
        ids = [coco or image_id for coco, image_id in zip(numbers, ids)]
        names = [f'{coco:012d}.jpg' if coco else name for coco, name in zip(numbers, names)]
    return [Picture(*picture) for picture in zip(ids, names, *counts)]


def _file_name_of(ref: dict) -> str:
    """The file name of a reference's image, '' if unknown.

    REFER names a part of the image, with the object's number behind: COCO_train2014_000000581857_16.jpg, 8756_2.jpg.
    """
    name, image_id = ref.get('file_name'), str(ref['image_id'])
    if not isinstance(name, str):
        return ''
    stem, suffix = os.path.splitext(name)
    whole, _, number = stem.rpartition('_')
    of_image = image_id in (base_name(whole), str(coco_number(whole)))
    return whole + suffix if number.isdecimal() and of_image else name


@lru_cache(maxsize=64)
def _images(file: str, modified: int) -> frozenset[Id]:
    """The images of one file in splits other than train, cached for several data sets."""
    if file.endswith('.safetensors'):
        table = ReferringTable.open(file)
        return frozenset() if table.header.get('split') == 'train' else frozenset().union(*_keys_of(table))
    pictures = (picture for split, found in read_splits(file).items() if split != 'train' for picture in found)
    return frozenset().union(*(_names_of(picture.image_id, picture.file_name) for picture in pictures))


def _names_of(image_id: Id, file_name: str) -> set[Id]:
    return {*coco_numbers(image_id, file_name)} or {image_id}


def _keys_of(table: ReferringTable) -> list[set[Id]]:
    """What each image is matched by; nothing if it is known not to be COCO's."""
    rows = range(table.rows('images'))
    if COCO_ID in table.columns:
        return [{table.value(COCO_ID, row)} - {0} for row in rows]
    return [_names_of(table.value('images.id', row), table.value('images.file_name', row)) for row in rows]


def without_held_out(name: str, table: ReferringTable, held_out: frozenset[Id]) -> np.ndarray:
    """Whether the image of each reference is not held out, boolean; the numbers are logged under the data set's name.

    A warning counts the images whose id and file name are not numbers: they may be COCO's under another name. Any
    number is assumed to be COCO's.
    """
    images = _keys_of(table)
    kept_images = np.array([held_out.isdisjoint(keys) for keys in images], dtype=bool)
    rows = np.flatnonzero(kept_images).tolist()
    unknown = [table.value('images.file_name', row) for row in rows if any(isinstance(key, str) for key in images[row])]
    if unknown:
        log_warning(
            f'{name}: {len(unknown):,} of {len(images):,} images, such as {unknown[0]}, have no COCO number as id or '
            'in their file name. They stay in training, although they may be in a val or test split: if they are of '
            'COCO, give their image_id'
        )
    kept = kept_images[table.columns['references.image']]
    used = len(np.unique(table.columns['references.image'][kept]))
    print_log(
        f'{name}: {(~kept).sum():,} of {len(kept):,} references and {len(images) - used:,} of {len(images):,} images '
        'are left out of training: the images are in val or test splits',
        'current',
    )
    return kept
