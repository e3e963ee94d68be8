"""Files that appear complete and never replace others."""

import os
import os.path as osp
import re
import unicodedata
from contextlib import suppress
from io import BytesIO

import numpy as np
from PIL import Image

from ..utils import atomic_write, cut_name

# Together with the number and the suffix below the 255 bytes that file systems allow.
_STEM_BYTES, _SLUG_BYTES = 120, 80


def file_stem(image: str, *sentences: str) -> str:
    """A file name of an image and the sentences about it: 'photo_the-man-in-red'.

    Args:
        image: Path of the image; the folder and the suffix are left out.
        sentences: Of their characters only letters and digits remain, of any script, in lower case.
    """
    words = re.findall(r'[^\W_]+', unicodedata.normalize('NFC', ' '.join(sentences)).lower())
    stem = cut_name(osp.splitext(osp.basename(image))[0], _STEM_BYTES)
    return '_'.join(filter(None, (stem, cut_name('-'.join(words), _SLUG_BYTES).rstrip('-'))))


def write_image(image: np.ndarray, folder: str, stem: str) -> str:
    """Write an RGB (H, W, 3) or gray (H, W) uint8 picture as PNG; the rest as in `write_new`."""
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, 'PNG')
    return write_new(buffer.getvalue(), folder, stem, '.png')


def write_new(content: bytes, folder: str, stem: str, suffix: str) -> str:
    """Write a file under the first free name of `{stem}_1{suffix}`, `{stem}_2{suffix}`, …; return its path.

    The file appears complete and replaces none. A missing folder is created.
    """
    os.makedirs(folder, exist_ok=True)
    number = 0
    while True:
        number += 1
        path = osp.join(folder, f'{stem}_{number}{suffix}')
        if not osp.exists(path):
            # Another process may take the name meanwhile.
            with suppress(FileExistsError), atomic_write(path, overwrite=False) as temporary:
                temporary.write_bytes(content)
                return path
