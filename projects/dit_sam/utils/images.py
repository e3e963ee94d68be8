"""Files of pictures, opened in one way: decoded by OpenCV from their bytes, as mmcv's `LoadImageFromFile` does."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock

import cv2
import numpy as np
from mmengine.fileio import get
from PIL import Image

from ..errors import InputError

# OpenCV's own bound, for whatever has pixels here.
MAX_PIXELS = 2**30
# What OpenCV before 5 does with the rest of a JPEG that is cut off.
_FILLS_WITH_GREY = int(cv2.__version__.partition('.')[0]) < 5
_OPENING = Lock()


@contextmanager
def opened(source: bytes | str) -> Iterator[Image.Image]:
    """A picture as Pillow sees it, from a file or its bytes; the head alone is read, whatever the size.

    Pillow's own bound, a sixth of ours, would call it a "decompression bomb".
    """
    with _OPENING:
        bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(BytesIO(source) if isinstance(source, bytes) else source)
        finally:
            Image.MAX_IMAGE_PIXELS = bound
    with image:
        yield image


def decode(content: bytes) -> np.ndarray:
    """The pixels of a picture as viewers show it, BGR, uint8, (H, W, 3).

    Raises:
        ValueError: It cannot be decoded to its end; the message says of "it" what is wrong.
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is not None and _FILLS_WITH_GREY:
            with opened(content) as picture:
                picture.load()
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise ValueError(undecodable(content))
    return image


def undecodable(source: bytes | str) -> str:
    """What is wrong, in words behind "it", with what OpenCV makes no picture of."""
    try:
        with opened(source) as image:
            pixels = image.width * image.height
    except Exception:  # a damaged head may raise nearly anything
        pixels = 0
    if pixels > MAX_PIXELS:
        return f'has {pixels / 1e6:,.0f} megapixels, and {MAX_PIXELS / 1e6:,.0f} are the most: scale it down'
    return 'is damaged or cut off, or of a format that OpenCV does not read'


def read_image(path: str) -> np.ndarray:
    """As `decode`, RGB, from a file.

    Raises:
        FileNotFoundError: There is none.
        InputError: It cannot be decoded.
    """
    try:
        return cv2.cvtColor(decode(get(path)), cv2.COLOR_BGR2RGB)
    except ValueError as error:
        raise InputError(f'image {path} cannot be decoded: it {error}') from error
