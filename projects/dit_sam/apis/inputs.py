"""Images and sentences as users pass them to `ReferringInferencer`: checked and converted to one form."""

import os
import os.path as osp
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from mmengine.fileio.backends.registry_utils import prefix_to_backends
from PIL import Image

from ..datasets.images import ORIENTATION
from ..errors import InputError
from .open_image import OpenImage

IMAGE_SUFFIXES = tuple('.avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pgm .png .ppm .tif .tiff .webp'.split())

# How EXIF's orientations are turned back.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

ImageInput = str | os.PathLike | np.ndarray | Image.Image | OpenImage
Sentences = str | Sequence[str | Sequence[str]]


def list_images(inputs: ImageInput | Sequence[ImageInput]) -> list[str | np.ndarray | OpenImage]:
    """The images of an input, in order, as paths, BGR arrays (H, W, 3) and open images. No file is read yet.

    Args:
        inputs: An image or a list of them: a path, a folder (its images by name, without subfolders), an array as
            mmcv loads it ((H, W, 3), BGR, uint8; gray and alpha work too), a PIL image, or an open image.

    Raises:
        FileNotFoundError: A path does not exist.
        InputError: There is no image, a folder has none, or an image has an unsupported type or shape.
    """
    images: list[str | np.ndarray | OpenImage] = []
    for item in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        name = f'image_{len(images) + 1}'
        if isinstance(item, (str, os.PathLike)):
            images += _list_path(os.fspath(item))
        elif isinstance(item, OpenImage):
            images.append(item)
        elif isinstance(item, Image.Image):
            images.append(_from_pil(item, name))
        elif isinstance(item, np.ndarray):
            images.append(_to_bgr(item, name))
        else:
            raise InputError(
                f'{name} has the type {type(item).__name__}: give a path, a folder, an array (BGR, uint8) or a '
                'PIL image'
            )
    if not images:
        raise InputError('no image given')
    return images


def is_single(inputs: ImageInput | Sequence[ImageInput]) -> bool:
    """Whether the input is one image rather than a list or a folder."""
    return not isinstance(inputs, (list, tuple)) and not is_folder(inputs)


def is_folder(inputs: ImageInput | Sequence[ImageInput]) -> bool:
    """Whether the input is one folder."""
    return isinstance(inputs, (str, os.PathLike)) and osp.isdir(inputs)


def match_sentences(sentences: Sentences, names: Sequence[str], single: bool) -> list[list[str]]:
    """The sentences of each image.

    Args:
        sentences: As in `ReferringInferencer`.
        names: What to call the images in errors.
        single: Whether a list holds the sentences of one image; see `is_single`.

    Raises:
        InputError: The numbers differ, an image has no sentence, or a sentence is blank or not a string.
    """
    if isinstance(sentences, str):
        sentences = [sentences] * len(names)
    elif not isinstance(sentences, (list, tuple)):
        raise InputError(f'sentences have the type {type(sentences).__name__}: give a string or a list')
    elif single:
        sentences = [sentences]
    if len(sentences) != len(names):
        raise InputError(
            f'{len(names)} images, but sentences for {len(sentences)}: give one sentence for all, or a '
            'sentence or a list of sentences for each image'
        )
    matched = [[item] if isinstance(item, str) else item for item in sentences]
    for name, item in zip(names, matched):
        _check_sentences(name, item)
    return [list(item) for item in matched]


def _check_sentences(name: str, sentences: Any) -> None:
    if not isinstance(sentences, (list, tuple)):
        raise InputError(f'the sentences for {name} have the type {type(sentences).__name__}: give a string or a list')
    if not sentences:
        raise InputError(f'there is no sentence for {name}: say what to segment')
    for number, sentence in enumerate(sentences, 1):
        if not isinstance(sentence, str):
            raise InputError(
                f'sentence {number} of {len(sentences)} for {name} has the type {type(sentence).__name__}, not a string'
            )
        if not sentence.strip():
            raise InputError(f'sentence {number} of {len(sentences)} for {name} is empty: say what to segment')
        try:
            sentence.encode()
        except UnicodeEncodeError as error:
            raise InputError(f'sentence {number} of {len(sentences)} for {name} is not valid text: {error}') from error


def _list_path(path: str) -> list[str]:
    """An existing path, the images of a folder, or an address that mmengine reads, which is not checked."""
    if osp.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != '.')
        found = [name for name in names if not osp.isdir(osp.join(path, name))]
        if not found:
            raise InputError(f'folder {path} holds no image: no file in it ends in {", ".join(IMAGE_SUFFIXES)}')
        return [osp.join(path, name) for name in found]
    scheme, is_address, _ = path.partition('://')
    if is_address and scheme in prefix_to_backends:
        return [path]
    if not osp.isfile(path):
        advice = f'mmengine has no backend for {scheme}://' if is_address else 'check the path'
        raise FileNotFoundError(f'image {path} not found: {advice}')
    return [path]


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    """A PIL image as BGR, turned as its EXIF tag says."""
    if image.mode.startswith(('I', 'F')):
        raise InputError(f'{name} is a PIL image of mode {image.mode}, of unknown range: convert it to RGB or L first')
    try:
        # Pillow converts La, with premultiplied alpha, only to LA.
        image = image.convert('LA') if image.mode == 'La' else image
        image.load()
    except (OSError, ValueError) as error:
        raise InputError(f'{name} cannot be decoded ({error})') from error
    # Damaged EXIF may raise nearly anything; Pillow's `exif_transpose` also writes it anew, and fails at other tags.
    with suppress(Exception):
        image = image.transpose(_TURNS[image.getexif()[ORIENTATION]])
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def _to_bgr(image: np.ndarray, name: str) -> np.ndarray:
    channels = image.shape[-1] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or image.dtype != np.uint8 or not image.size:
        raise InputError(f'{name} is an array {image.shape} of {image.dtype}: give (H, W, 3), BGR, uint8')
    if channels == 1:
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])
