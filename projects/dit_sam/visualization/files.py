"""Files that appear whole and never replace others."""

import os
import os.path as osp
import re
import unicodedata
from contextlib import suppress
from io import BytesIO
from itertools import count
from uuid import uuid4

import numpy as np
from PIL import Image

from ..utils import cut_name

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
    """Write an RGB (H, W, 3) or grey (H, W) uint8 picture as PNG; the rest as in `write_new`."""
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, 'PNG')
    return write_new(buffer.getvalue(), folder, stem, '.png')


def write_new(content: bytes, folder: str, stem: str, suffix: str) -> str:
    """Write a file under the first name of `{stem}_1{suffix}`, `{stem}_2{suffix}`, … that is free.

    The content is written aside and then put in place, so that no reader meets half a file.

    Args:
        content: What the file holds.
        folder: Where it goes; made when it is missing.
        stem: Beginning of the name.
        suffix: End of the name, with its dot.

    Returns:
        The path of the file.
    """
    os.makedirs(folder, exist_ok=True)
    part = osp.join(folder, f'.{uuid4().hex}.part')
    try:
        with open(part, 'xb') as file:
            file.write(content)
        paths = (osp.join(folder, f'{stem}_{number}{suffix}') for number in count(1))
        return next(path for path in paths if _put(part, path))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def _put(part: str, path: str) -> bool:
    """Give a file its name unless that is taken; whether it worked."""
    try:
        # A link, unlike a renaming, fails when the name exists, also when another process has just made it.
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links.
        if osp.exists(path):
            return False
        os.replace(part, path)
    return True
