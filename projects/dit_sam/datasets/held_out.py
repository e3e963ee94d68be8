"""Images of the val and test splits of several data sets, which joint training must not see.

RefCOCO, RefCOCO+ and RefCOCOg divide the same COCO train2014 images in different ways: a training image of one is a
test image of another.
"""

import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from ..errors import InputError
from .coco_names import coco_numbers
from .grefs import load_grefs
from .safe_pickle import load_refs
from .table import ReferringTable

Id = int | str
PATTERNS = ('refs(*).p', 'grefs(*).json', '*.safetensors')


def evaluation_images(sources: Sequence[str]) -> frozenset[Id]:
    """All images that are in a split other than train: their numbers in COCO, and ids that are none.

    Args:
        sources: Files, ``refs(*).p``, ``grefs(*).json`` or prepared ones, or folders of such files.

    Raises:
        FileNotFoundError: When one is missing.
        InputError: When a folder holds no such file, or a file is damaged.
    """
    files = [file for source in sources for file in _files(source)]
    return frozenset().union(*(_images(file, os.stat(file).st_mtime_ns) for file in files))


def _files(source: str) -> list[str]:
    if os.path.isfile(source):
        return [source]
    if not os.path.isdir(source):
        raise FileNotFoundError(
            f'filter_cfg.evaluation_images: {source} not found; name files of references, or folders of such files'
        )
    files = sorted(str(file) for pattern in PATTERNS for file in Path(source).glob(pattern))
    if not files:
        raise InputError(f'filter_cfg.evaluation_images: {source} holds none of {", ".join(PATTERNS)}')
    return files


@lru_cache(maxsize=64)
def _images(file: str, modified: int) -> frozenset[Id]:
    """Those of one file, read once for all data sets that leave them out."""
    if file.endswith('.safetensors'):
        table = ReferringTable.open(file)
        if table.header.get('split') == 'train':
            return frozenset()
        return frozenset().union(*map(_names_of, *_images_of(table)))
    refs = load_grefs(file) if file.endswith('.json') else load_refs(file)
    return frozenset().union(*(_names_of(ref['image_id'], '') for ref in refs if ref['split'] != 'train'))


def _names_of(image_id: Id, file_name: str) -> set[Id]:
    return coco_numbers(image_id, file_name) or {image_id}


def _images_of(table: ReferringTable) -> tuple[list[Id], list[str]]:
    """Ids and file names."""
    return tuple(
        [table.value(f'images.{name}', row) for row in range(table.rows('images'))] for name in ('id', 'file_name')
    )


def not_held_out(name: str, table: ReferringTable, held_out: frozenset[Id]) -> np.ndarray:
    """Whether each reference is to an image that is not held out, boolean.

    Warns of images of which neither id nor file name is a number, and which are none of those that are held out: they
    may be COCO's under another name. A number that is an id of one's own cannot be told from COCO's.
    """
    images = list(zip(*_images_of(table)))
    kept = np.array([held_out.isdisjoint(_names_of(*image)) for image in images], dtype=bool)
    unknown = [
        file_name for (image_id, file_name), keep in zip(images, kept) if keep and not coco_numbers(image_id, file_name)
    ]
    if unknown:
        print_log(
            f'{name}: {len(unknown):,} of {len(images):,} images, such as {unknown[0]}, have no number of COCO '
            'for an id or in their file name. They stay in training, and whether they are in a val or test split '
            'cannot be told: if they are of COCO, give their image_id',
            'current',
            logging.WARNING,
        )
    return kept[table.columns['references.image']]


def log_dropped(name: str, table: ReferringTable, kept: np.ndarray) -> None:
    """Say how many references, and images with them, are left out.

    Args:
        name: The data set.
        table: All of it.
        kept: Boolean, one a reference.
    """
    images = table.rows('images')
    dropped = images - len(np.unique(table.columns['references.image'][kept]))
    print_log(
        f'{name}: {(~kept).sum():,} of {len(kept):,} references and {dropped:,} of {images:,} images are left '
        'out of training: the images are in val or test splits',
        logger='current',
    )
