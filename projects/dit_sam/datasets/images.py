"""Image files: under either of COCO's names, whole, and of the size that is said of them."""

import os.path as osp
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from mmengine.fileio import exists, get, join_path
from PIL import Image, ImageOps, TiffImagePlugin

from ..errors import InputError
from ..utils import decode_image, open_image
from .instances import REMEDY

# EXIF's orientation tag, its values that move pixels, and those of them that swap height and width.
ORIENTATION, MOVED, TURNED = 0x0112, range(2, 9), (5, 6, 7, 8)
# Formats of which OpenCV, which reads pictures for the model, follows the tag. Of AVIF it does not.
FOLLOWED = ('JPEG', 'MPO', 'PNG', 'TIFF', 'WEBP')
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


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Height and width in pixels of a picture as OpenCV shows it: turned as its EXIF tag says, except AVIF."""
    size = _stored_size(image)
    return size[::-1] if _orientation(image) in TURNED else size


def _stored_size(image: Image.Image) -> tuple[int, int]:
    if image.format == 'TIFF':  # Pillow may have exchanged the two already, by its version
        return image.tag_v2[TiffImagePlugin.IMAGELENGTH], image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
    return image.height, image.width


def _orientation(image: Image.Image) -> int | None:
    """The tag, where OpenCV follows it: not Pillow's own `getexif`, which takes one from XMP too."""
    if image.format not in FOLLOWED:
        return None
    if image.format == 'TIFF':
        return image.tag_v2.get(ORIENTATION)
    exif = Image.Exif()
    exif.load(image.info.get('exif') or (_exif_of_png(image.fp) if image.format == 'PNG' and image.fp else b''))
    return exif.get(ORIENTATION)


def _exif_of_png(file: BinaryIO) -> bytes:
    """Its EXIF chunk, which may stand behind the pixels; these are not decoded."""
    position, exif = file.tell(), b''
    file.seek(8)
    while not exif and len(head := file.read(8)) == 8:
        length, kind = struct.unpack('>I4s', head)
        if kind == b'eXIf':
            exif = file.read(length)
        file.seek(length + 4, 1)
    file.seek(position)
    return exif


def image_size(path: str) -> tuple[int, int]:
    """As `shown_size`, by the file's head; the file is found under either of COCO's names.

    Raises:
        ValueError: When it is missing or no image, with a message that says of "it" what is wrong.
    """
    try:
        with open_image(find_image(path)) as image:
            return shown_size(image)
    except FileNotFoundError as error:
        raise ValueError(f'names the image {path}, which is not there') from error
    except Exception as error:  # a damaged head may raise nearly anything
        raise ValueError(f'names the image {path}, which cannot be read: {error}') from error


def image_problem(path: str, height: int, width: int) -> str | None:
    """What keeps an image from being used, in a few words; None where nothing does. It is decoded as in training.

    See `orientation_doubt` for what sizes do not tell.

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
        shown = decode_image(content).shape[:2]
    except OSError as error:
        return f'cannot be read: {error}'
    except ValueError as error:
        return f'does not decode: it {error}'
    if shown == (height, width):
        return None
    try:
        with open_image(content) as image:
            stored = _stored_size(image)
    except Exception:  # of a format that Pillow does not know, which is then without a tag
        stored = shown
    if stored == (height, width):
        return (
            f'is turned by its EXIF tag to {shown[0]} x {shown[1]} (height x width), its annotation is not: save '
            'it without the tag or, if the annotation was drawn on it as shown, say that size'
        )
    return f'is {shown[0]} x {shown[1]}, not {height} x {width} (height x width)'


def orientation_doubt(path: str) -> str | None:
    """What is in doubt about a good image whose EXIF tag moves pixels and leaves its size; None where nothing is."""
    try:
        with open_image(find_image(path)) as image:
            orientation = _orientation(image)
            if orientation not in MOVED or shown_size(image) != _stored_size(image):
                return None
    except Exception:  # of a format that Pillow does not know, which is then without a tag
        return None
    return (
        f'is turned or mirrored by its EXIF tag ({orientation}), and its size does not tell whether its annotation '
        'is: look, and save it without the tag, its pixels as the annotation has them'
    )


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
            raise InputError(
                f'names the mask {path}, which is of {list(shown_size(image))}, but its image is '
                f'{[height, width]} (height, width)'
            )
        return np.asarray(ImageOps.exif_transpose(image) if _orientation(image) in MOVED else image) != 0


def mask_doubt(path: str) -> str | None:
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
        # From its bytes: a TIFF's own file Pillow maps into memory in rows of the turned width, which garbles it.
        with open_image(get(path)) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise ValueError(f'names the mask {path}, which is not there') from error
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f'names the mask {path}, which cannot be read: {error}') from error
