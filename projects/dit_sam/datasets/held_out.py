"""Images of the val and test splits of several data sets, which joint training must not see.

RefCOCO, RefCOCO+ and RefCOCOg divide the same COCO train2014 images in different ways: a training image of one is a
test image of another.
"""
import os
from functools import lru_cache
from pathlib import Path
from typing import FrozenSet, List, Sequence

import numpy as np
from mmengine.logging import print_log

from ..errors import InputError
from .grefs import load_grefs
from .safe_pickle import load_refs
from .table import ReferringTable

PATTERNS = ('refs(*).p', 'grefs(*).json', '*.safetensors')


def evaluation_images(sources: Sequence[str]) -> FrozenSet[str]:
    """The ids of all images that are in a split other than train, as text.

    Args:
        sources: Files, ``refs(*).p``, ``grefs(*).json`` or prepared ones, or folders of such files.

    Raises:
        FileNotFoundError: When one is missing.
        InputError: When a folder holds no such file, or a file is damaged.
    """
    files = [file for source in sources for file in _files(source)]
    return frozenset().union(*(_images(file, os.stat(file).st_mtime_ns) for file in files))


def _files(source: str) -> List[str]:
    if os.path.isfile(source):
        return [source]
    if not os.path.isdir(source):
        raise FileNotFoundError(f'filter_cfg.evaluation_images: {source} not found; name files of references, or '
                                'folders of such files')
    files = sorted(str(file) for pattern in PATTERNS for file in Path(source).glob(pattern))
    if not files:
        raise InputError(f'filter_cfg.evaluation_images: {source} holds none of {", ".join(PATTERNS)}')
    return files


@lru_cache(maxsize=64)
def _images(file: str, modified: int) -> FrozenSet[str]:
    """Those of one file, read once for all data sets that leave them out."""
    if file.endswith('.safetensors'):
        table = ReferringTable.open(file)
        if table.header.get('split') == 'train':
            return frozenset()
        return frozenset(str(table.value('images.id', row)) for row in range(table.rows('images')))
    refs = load_grefs(file) if file.endswith('.json') else load_refs(file)
    return frozenset(str(ref['image_id']) for ref in refs if ref['split'] != 'train')


def log_dropped(name: str, table: ReferringTable, kept: np.ndarray) -> None:
    """Say how many references, and images with them, are left out.

    Args:
        name: The data set.
        table: All of it.
        kept: Boolean, one a reference.
    """
    images = table.rows('images')
    dropped = images - len(np.unique(table.columns['references.image'][kept]))
    print_log(f'{name}: {(~kept).sum():,} of {len(kept):,} references and {dropped:,} of {images:,} images are left '
              'out of training: the images are in val or test splits', logger='current')
