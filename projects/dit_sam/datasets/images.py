"""Image files: under either of COCO's names, whole, and of the size that is said of them."""
import os.path as osp
from contextlib import contextmanager
from typing import Iterator, Optional, Tuple

import numpy as np
from mmengine.fileio import exists, get, join_path
from PIL import Image, ImageOps

from ..errors import InputError
from ..utils import decode, opened
from .instances import REMEDY

# EXIF's orientation tag, its values that move pixels, and those of them that swap height and width.
ORIENTATION, MOVED, TURNED = 0x0112, range(2, 9), (5, 6, 7, 8)
# Modes of PIL with one number a pixel; of a palette that is the index.
ONE_CHANNEL = ('1', 'L', 'P', 'I', 'I;16', 'I;16B', 'F')


def find_image(path: str) -> str:
    """The image at ``path``, or in the same folder under the name that COCO gave it in 2017.

    ``instances.json`` of RefCOCO says ``COCO_train2014_000000581857.jpg``. The same picture is ``000000581857.jpg`` in
    train2017, which holds all of train2014.

    Raises:
        FileNotFoundError: When neither is there.
    """
    folder, name = osp.split(path)
    short = join_path(folder, name.split('_')[-1]) if name.startswith('COCO_') else path
    for candidate in (path, short):
        if exists(candidate):
            return candidate
    also = f' (nor {short})' if short != path else ''
    raise FileNotFoundError(f'Image not found: {path}{also}. Check data_prefix.img_path; {REMEDY}')


def shown_size(image: Image.Image) -> Tuple[int, int]:
    """Height and width in pixels of a picture as viewers show it: turned as its EXIF tag says."""
    size = image.height, image.width
    return size[::-1] if _orientation(image) in TURNED else size


def _orientation(image: Image.Image) -> Optional[int]:
    # Not PNG's own `getexif`, which decodes all pixels to look behind them.
    return Image.Image.getexif(image).get(ORIENTATION)


def image_size(path: str) -> Tuple[int, int]:
    """As `shown_size`, by the file's head; the file is found under either of COCO's names.

    Raises:
        ValueError: When it is missing or no image, with a message that says of "it" what is wrong.
    """
    try:
        with opened(find_image(path)) as image:
            return shown_size(image)
    except FileNotFoundError:
        raise ValueError(f'names the image {path}, which is not there') from None
    except Exception as error:  # a damaged head may raise nearly anything
        raise ValueError(f'names the image {path}, which cannot be read: {error}') from None


def image_problem(path: str, height: int, width: int) -> Optional[str]:
    """What keeps an image from being used, in a few words; None where nothing does. It is decoded as in training.

    Args:
        path: The file, in COCO's case under either name.
        height: Height in pixels of the picture that was annotated.
        width: Its width.
    """
    try:
        path = find_image(path)
    except FileNotFoundError:
        return 'is missing'
    try:
        content = get(path)
        shown = decode(content).shape[:2]
    except OSError as error:
        return f'cannot be read: {error}'
    except ValueError as error:
        return f'does not decode: it {error}'
    try:
        with opened(content) as image:
            stored, orientation = (image.height, image.width), _orientation(image)
    except Exception:  # of a format that Pillow does not know, which is then without a tag
        stored, orientation = shown, None
    if stored == (height, width) != shown:
        return (f'is turned by its EXIF tag to {shown[0]} x {shown[1]} (height x width), its annotation is not: save '
                'it without the tag or, if the annotation was drawn on it as shown, say that size')
    if shown != (height, width):
        return f'is {shown[0]} x {shown[1]}, not {height} x {width} (height x width)'
    if orientation in MOVED and stored == shown:
        return (f'is turned or mirrored by its EXIF tag ({orientation}), and its size does not tell whether its '
                'annotation is: look, and save it without the tag, its pixels as the annotation has them')
    return None


def read_mask(path: str, height: int, width: int) -> np.ndarray:
    """A mask image as viewers show it, boolean (height, width): set where the image is not 0.

    Raises:
        ValueError: When it is missing, damaged, of another size, or has several channels.
    """
    with _opened_mask(path) as image:
        if image.mode not in ONE_CHANNEL:
            raise InputError(f'names the mask {path}, which has the channels {image.mode}: save it with one, 0 outside')
        # Before the pixels, of which there may be any number.
        if shown_size(image) != (height, width):
            raise InputError(f'names the mask {path}, which is of {list(shown_size(image))}, but its image is '
                             f'{[height, width]} (height, width)')
        return np.asarray(ImageOps.exif_transpose(image)) != 0


def mask_doubt(path: str) -> Optional[str]:
    """What may be other than meant in a mask image that `read_mask` takes; None where it has one value besides 0."""
    with _opened_mask(path) as image:
        kind, mask = image.format, np.asarray(image)
    values = np.setdiff1d(mask, [0])
    blurs = 'a JPEG, which blurs edges: save it as PNG; ' if kind in ('JPEG', 'MPO') else ''
    if len(values) < 2 and not blurs:
        return None
    few = ', '.join(f'{value:g}' for value in values[:3]) + (', …' if len(values) > 3 else '')
    return f'names the mask {path}, {blurs}all {np.count_nonzero(mask)} pixels with the values {few} count as inside'


@contextmanager
def _opened_mask(path: str) -> Iterator[Image.Image]:
    """A mask image; errors as in `read_mask`."""
    try:
        with opened(path) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise ValueError(f'names the mask {path}, which is not there') from None
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f'names the mask {path}, which cannot be read: {error}') from None
