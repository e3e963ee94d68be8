"""Image files, decoded in one way: by OpenCV from their bytes, as in mmcv's `LoadImageFromFile`."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock

import cv2
import numpy as np
from mmengine.fileio import get
from PIL import Image

from ..errors import InputError

# OpenCV's own limit, used for everything that has pixels here.
MAX_PIXELS = 2**30
# Before 5, OpenCV fills the rest of a cut JPEG with gray.
_FILLS_WITH_GRAY = int(cv2.__version__.partition('.')[0]) < 5
_OPENING = Lock()


@contextmanager
def open_image(source: bytes | str) -> Iterator[Image.Image]:
    """Open a file, or its bytes, with Pillow. Only the header is read, for any size of image.

    Pillow's own limit, a sixth of ours, is lifted meanwhile: it reports a "decompression bomb".
    """
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(BytesIO(source) if isinstance(source, bytes) else source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def decode_image(content: bytes) -> np.ndarray:
    """The pixels of an image as viewers show it, BGR, uint8, (H, W, 3).

    Raises:
        ValueError: It cannot be decoded completely; the message continues a sentence, such as "is damaged".
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is not None and _FILLS_WITH_GRAY:
            with open_image(content) as picture:
                picture.load()
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise ValueError(undecodable_reason(content))
    return image


def undecodable_reason(source: bytes | str) -> str:
    """Why OpenCV cannot decode an image, as in "is damaged"."""
    try:
        with open_image(source) as image:
            pixels = image.width * image.height
    except Exception:  # a damaged head may raise nearly anything
        pixels = 0
    if pixels > MAX_PIXELS:
        return f'has {pixels / 1e6:,.0f} megapixels; the limit is {MAX_PIXELS / 1e6:,.0f}: scale it down'
    return 'is damaged or cut off, or of a format that OpenCV does not read'


def read_image(path: str) -> np.ndarray:
    """The pixels of an image file, RGB, uint8, (H, W, 3).

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It cannot be decoded.
    """
    try:
        return cv2.cvtColor(decode_image(get(path)), cv2.COLOR_BGR2RGB)
    except ValueError as error:
        raise InputError(f'image {path} cannot be decoded: it {error}') from error
