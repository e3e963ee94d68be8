"""Images of val and test splits, which joint training must not see.

RefCOCO, RefCOCO+ and RefCOCOg split the same COCO train2014 images in different ways: a training image of one is a test
image of another.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from ..errors import InputError, log_warning
from .columns import COCO_ID
from .images import coco_numbers
from .reference_files import load_any_refs
from .table import ReferringTable

Id = int | str
PATTERNS = ('refs(*).p', 'grefs(*).json', '*.safetensors')


def evaluation_images(sources: Sequence[str]) -> frozenset[Id]:
    """All images in splits other than train: their numbers in COCO, or their ids if these are not numbers.

    Args:
        sources: Files, `refs(*).p`, `grefs(*).json` or prepared ones, or folders of such files.

    Raises:
        FileNotFoundError: A source does not exist.
        InputError: A folder holds no such file, or a file is damaged.
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
    """The images of one file, cached for several data sets."""
    if file.endswith('.safetensors'):
        table = ReferringTable.open(file)
        if table.header.get('split') == 'train':
            return frozenset()
        return frozenset().union(*_keys_of(table))
    refs = load_any_refs(file)
    return frozenset().union(*(_names_of(ref['image_id'], '') for ref in refs if ref['split'] != 'train'))


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
