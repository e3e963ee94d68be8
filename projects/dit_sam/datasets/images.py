"""Image files: COCO's names for them, their sizes, EXIF orientation, and masks in image files."""

import os.path as osp
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from mmengine.fileio import exists, get, join_path
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from ..errors import InputError
from ..utils import decode_image, open_image
from .instances import REMEDY

# EXIF's orientation tag, the values of it that move pixels, and those that swap height and width.
ORIENTATION, MOVED, TURNED = 0x0112, range(2, 9), (5, 6, 7, 8)
# Formats for which OpenCV, which reads pictures for the model, follows the tag. For AVIF it does not.
FOLLOWED = ('JPEG', 'MPO', 'PNG', 'TIFF', 'WEBP')
# Modes of PIL with one number per pixel; for a palette that is the index.
ONE_CHANNEL = ('1', 'L', 'P', 'I', 'I;16', 'I;16B', 'F')
# COCO_train2014_000000581857.jpg, 000000581857.png, COCO_train2014_000000581857_7.JPG
_PADDED = re.compile(r'(?<!\d)(0{5}\d{7})(?!\d)', re.ASCII)
# 581857, 581857.jpg, COCO_train2014_581857.jpg
_BARE = re.compile(r'(?:COCO_[a-z]+\d{4}_)?(\d+)(?:\.\w+)?', re.ASCII)


def coco_number(name: str) -> int | None:
    """The number in a file name with COCO's twelve digits; None if there is none."""
    found = _PADDED.search(base_name(name))
    return int(found.group(1)) if found else None


def coco_numbers(image_id: int | str, name: str) -> set[int]:
    """The possible COCO numbers of an image: from its file name and from its id, which may be a file name too."""
    of_id, of_name = str(image_id), _bare_number(name)
    # A file name with more digits than COCO's numbers is probably a date.
    of_name = None if of_name is not None and of_name >= 10**7 else of_name
    found = (coco_number(of_id), _bare_number(of_id), coco_number(name), of_name)
    return {number for number in found if number is not None}


def _bare_number(name: str) -> int | None:
    """The number that remains of a file name without COCO's prefix and the suffix; None if it is not a number."""
    found = _BARE.fullmatch(base_name(name))
    return int(found.group(1)) if found else None


def base_name(name: str) -> str:
    """A file name without its folder, whichever of the two slashes separates them."""
    return re.split(r'[/\\]', name)[-1]


def name_of_2017(path: str) -> str:
    """The path of a COCO picture of 2014 in COCO 2017; other paths stay."""
    folder, name = osp.split(path)
    return join_path(folder, name.split('_')[-1]) if name.startswith('COCO_') else path


def find_image(path: str) -> str:
    """The image at `path`, or in the same folder under COCO's name of 2017.

    RefCOCO's `instances.json` has names such as `COCO_train2014_000000581857.jpg`. In train2017, which contains all of
    train2014, the same picture is `000000581857.jpg`.

    Raises:
        FileNotFoundError: Neither exists.
    """
    short = name_of_2017(path)
    for candidate in (path, short):
        if exists(candidate):
            return candidate
    also = f' (nor {short})' if short != path else ''
    raise FileNotFoundError(f'Image not found: {path}{also}. Check data_prefix.img_path; {REMEDY}')


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Height and width in pixels of a picture as OpenCV loads it: turned by its EXIF tag, except AVIF."""
    size = _stored_size(image)
    return size[::-1] if _orientation(image) in TURNED else size


def _stored_size(image: Image.Image) -> tuple[int, int]:
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # some versions of Pillow swap height and width
        return image.tag_v2[TiffImagePlugin.IMAGELENGTH], image.tag_v2[TiffImagePlugin.IMAGEWIDTH]
    return image.height, image.width


def _orientation(image: Image.Image) -> int | None:
    """The EXIF tag if OpenCV follows it. Pillow's `getexif` would also read one from XMP."""
    if image.format not in FOLLOWED:
        return None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(ORIENTATION)
    exif = Image.Exif()
    content = image.info.get('exif')
    if not content and isinstance(image, PngImagePlugin.PngImageFile) and image.fp:
        content = _exif_of_png(image.fp)
    exif.load(content or b'')
    return exif.get(ORIENTATION)


def _exif_of_png(file: IO[bytes]) -> bytes:
    """EXIF chunk of a PNG file, which may come after the pixels; these are not decoded."""
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
    """Height and width of an image file as `shown_size`, from its header; the file may have either of COCO's names.

    Raises:
        ValueError: The file is missing or not an image. The message is a predicate: 'names the image ...'.
    """
    try:
        with open_image(find_image(path)) as image:
            return shown_size(image)
    except FileNotFoundError as error:
        raise ValueError(f'names the image {path}, which does not exist') from error
    except Exception as error:  # a damaged header may raise nearly anything
        raise ValueError(f'names the image {path}, which cannot be read: {error}') from error


def image_problem(path: str, height: int, width: int) -> str | None:
    """Why an image cannot be used, in a few words, or None. It is decoded as in training.

    `orientation_doubt` finds what sizes do not show.

    Args:
        path: The file, under either of COCO's names.
        height: Height of the annotated picture in pixels.
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
    except Exception:  # a format that Pillow does not know; it has no tag
        stored = shown
    if stored == (height, width):
        return (
            f'is turned by its EXIF tag to {shown[0]} x {shown[1]} (height x width), its annotation is not: save '
            'it without the tag or, if the annotation was drawn on the turned picture, give that size'
        )
    return f'is {shown[0]} x {shown[1]}, not {height} x {width} (height x width)'


def orientation_doubt(path: str, says_size: bool = True) -> str | None:
    """A warning about an image whose EXIF tag moves pixels, and the annotation may not know; None for other images.

    If the annotation says the size of the picture (`says_size`), `image_problem` tells by it, unless the tag keeps the
    size.
    """
    try:
        with open_image(find_image(path)) as image:
            orientation = _orientation(image)
            keeps_size = shown_size(image) == _stored_size(image)
            if orientation not in MOVED or (says_size and not keeps_size):
                return None
    except Exception:  # a format that Pillow does not know; it has no tag
        return None
    remedy = 'compare the two, and save the picture without the tag as the annotation has it'
    if not keeps_size:
        remedy = 'give "height" and "width" of the picture on which it was drawn'
    return (
        f'is turned or mirrored by its EXIF tag ({orientation}), and its size does not tell whether its annotation '
        f'is too: {remedy}'
    )


def read_mask(path: str, height: int, width: int) -> np.ndarray:
    """The mask in an image as viewers show it, boolean (height, width): True where the image is not 0.

    Raises:
        ValueError: The file is missing, damaged, of another size, or has several channels.
    """
    with _opened_mask(path) as image:
        if image.mode not in ONE_CHANNEL:
            raise InputError(f'names the mask {path}, which has the channels {image.mode}: save it with one, 0 outside')
        # Checked before the pixels are decoded, because there may be too many.
        if shown_size(image) != (height, width):
            raise InputError(
                f'names the mask {path} of size {list(shown_size(image))}, but its image is '
                f'{[height, width]} (height, width)'
            )
        return np.asarray(ImageOps.exif_transpose(image) if _orientation(image) in MOVED else image) != 0


def mask_doubt(path: str) -> str | None:
    """A warning about a mask image that may be inverted, has several values besides 0, or is a JPEG; else None."""
    with _opened_mask(path) as image:
        kind, mask = image.format, np.asarray(image)
    share = np.count_nonzero(mask) / mask.size
    if share > 0.8 and mask[[0, 0, -1, -1], [0, -1, 0, -1]].all():
        return f'names the mask {path}, which has {share:.0%} of its picture inside, with all corners: is it inverted?'
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
        # From its bytes, because Pillow maps the file of a rotated TIFF into memory with the wrong width.
        with open_image(get(path)) as image:
            yield image
    except InputError:
        raise
    except FileNotFoundError as error:
        raise ValueError(f'names the mask {path}, which does not exist') from error
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f'names the mask {path}, which cannot be read: {error}') from error
