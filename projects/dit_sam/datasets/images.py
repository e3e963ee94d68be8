"""Image files: under either of COCO's names, whole, and of the size that is said of them."""
import os.path as osp
from typing import Optional, Tuple

import numpy as np
from mmengine.fileio import exists, join_path
from PIL import Image, ImageOps

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
        with Image.open(find_image(path)) as image:
            return shown_size(image)
    except FileNotFoundError:
        raise ValueError(f'names the image {path}, which is not there') from None
    except Exception as error:  # a damaged head may raise nearly anything
        raise ValueError(f'names the image {path}, which cannot be read: {error}') from None


def image_problem(path: str, height: int, width: int) -> Optional[str]:
    """What keeps an image from being used, in a few words; None where nothing does. It is decoded to the end.

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
        with Image.open(path) as image:
            image.load()
            stored, shown, orientation = (image.height, image.width), shown_size(image), _orientation(image)
    except Exception as error:  # a damaged file may raise nearly anything
        return f'does not decode: {str(error) or type(error).__name__}'
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
    _, mode, mask = _open_mask(path)
    if mode not in ONE_CHANNEL:
        raise ValueError(f'names the mask {path}, which has the channels {mode}: save it with one, 0 outside')
    if mask.shape != (height, width):
        raise ValueError(f'names the mask {path}, which is of {list(mask.shape)}, but its image is {[height, width]} '
                         '(height, width)')
    return mask != 0


def mask_doubt(path: str) -> Optional[str]:
    """What may be other than meant in a mask image that `read_mask` takes; None where it has one value besides 0."""
    kind, _, mask = _open_mask(path)
    values = np.setdiff1d(mask, [0])
    blurs = 'a JPEG, which blurs edges: save it as PNG; ' if kind in ('JPEG', 'MPO') else ''
    if len(values) < 2 and not blurs:
        return None
    few = ', '.join(f'{value:g}' for value in values[:3]) + (', …' if len(values) > 3 else '')
    return f'names the mask {path}, {blurs}all {np.count_nonzero(mask)} pixels with the values {few} count as inside'


def _open_mask(path: str) -> Tuple[Optional[str], str, np.ndarray]:
    """The file format of a mask image, its mode and its pixels; errors as in `read_mask`."""
    try:
        with Image.open(path) as image:
            return image.format, image.mode, np.asarray(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ValueError(f'names the mask {path}, which is not there') from None
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f'names the mask {path}, which cannot be read: {error}') from None
