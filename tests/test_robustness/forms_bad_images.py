"""Pictures that are damaged, have wrong headers or are too large, and checks before training."""

import io
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from forms_images import load, oriented, picture, refuse, size_of
from fuzzing import ERRORS, Attempt, accepted, cut, damage, either, refused
from PIL import Image
from subjects import inferencer

from dit_sam.datasets.images import image_problem, orientation_doubt, read_mask
from dit_sam.utils import read_image


def encoded(rng: Random, height: int, width: int) -> tuple[bytes, str]:
    suffix = rng.choice(['jpg', 'jpg', 'png', 'png', 'bmp', 'gif', 'tif', 'webp', 'ppm', 'jp2'])
    buffer = io.BytesIO()
    form = dict(jpg='JPEG', tif='TIFF', jp2='JPEG2000').get(suffix, suffix.upper())
    options = dict(progressive=rng.random() < 0.5) if suffix == 'jpg' else {}
    picture(rng, height, width).save(buffer, form, **options)
    return buffer.getvalue(), f'a.{suffix}'


@refused('images', 'JPEG, PNG, BMP, GIF, TIFF, WebP, PPM, JPEG 2000 truncated at any byte', 'file', share=0.4)
def cut_image(rng: Random, folder: Path) -> Attempt:
    height, width = rng.randint(10, 300), rng.randint(10, 300)
    data, name = encoded(rng, height, width)
    # Data after the last pixel are not needed: end marks, checksums, and TIFF's table if it precedes the pixels.
    (folder / name).write_bytes(cut(rng, data[:-32]))
    return refuse(folder, name, (height, width))


@either('images', 'the same with changed, removed and added bytes', 'a picture of its size, or file')
def damaged_image(rng: Random, folder: Path) -> Attempt:
    data, name = encoded(rng, 30, 40)
    (folder / name).write_bytes(damage(rng, data))

    def run() -> None:
        problem = image_problem(str(folder / name), 30, 40)
        try:
            load(folder, name, 30, 40)
        except ERRORS:
            assert problem, 'a check before training takes it'
            raise
        assert not problem, f'a check before training refuses it: {problem}'

    return Attempt(run, (name,))


@refused('images', 'other files: empty, text, zeros, noise, a folder, a missing one', 'file', share=0.4)
def other_files(rng: Random, folder: Path) -> Attempt:
    path, what = (
        folder / 'a.png',
        rng.choice([b'', b'<html>404</html>', bytes(1000), rng.randbytes(1000), None, 'folder']),
    )
    path.unlink(missing_ok=True)
    if what == 'folder':
        (folder / 'folder.png').mkdir(exist_ok=True)
        return refuse(folder, 'folder.png')
    if what is not None:
        path.write_bytes(what)
    return refuse(folder, 'a.png')


def png_of(height: int, width: int) -> bytes:
    """A PNG whose header has this size, without pixel data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


@refused('images', 'wrong headers: 0 or up to 2^31 pixels a side, and no data', 'file', share=0.4)
def lying_head(rng: Random, folder: Path) -> Attempt:
    sides = [0, 1, 1000, 2**16, 2**20 - 1, 2**20, 2**31 - 1, 2**31, 2**32 - 1]
    height, width = rng.choice(sides), rng.choice(sides)
    (folder / 'a.png').write_bytes(png_of(height, width))
    return refuse(folder, 'a.png')


@refused('images', '32-bit and floating-point TIFF', 'file', share=0.4)
def wide_numbers(rng: Random, folder: Path) -> Attempt:
    kind = rng.choice([np.int32, np.float32])
    Image.fromarray(np.zeros(size_of(rng), kind)).save(folder / 'a.tif')
    return refuse(folder, 'a.tif')


@refused('images', 'arrays and Pillow images of other shapes and types', 'which one')
def arrays(rng: Random, folder: Path) -> Attempt:
    values: Any = rng.choice(
        [
            np.zeros((4, 4, 3), rng.choice([np.float32, np.int64, np.uint16, bool, complex])),
            np.zeros(
                rng.choice([(), (3,), (0, 4, 3), (4, 0, 3), (4, 4, 2), (4, 4, 5), (1, 4, 4, 3), (4, 4, 7)]), np.uint8
            ),
            Image.new(rng.choice(['I', 'F', 'I;16']), (4, 4)),
            None,
            3,
            b'a.png',
            {},
            [[]],
        ]
    )
    return Attempt(lambda: inferencer()([np.zeros((4, 4, 3), np.uint8), values], 'circle'), ('image_2',))


@accepted('images', 'Pillow images of every mode that converts to RGB, also La', 'a mask of their size', share=0.4)
def pillow_modes(rng: Random, folder: Path) -> Attempt:
    mode = rng.choice(['1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr', 'LAB', 'HSV'])

    def run() -> None:
        (prediction,) = inferencer()(Image.new(mode, (12, 10), 1), 'circle')['predictions']
        assert prediction['mask'].shape == (10, 12)

    return Attempt(run)


@accepted('images', '200 megapixels', 'a mask of 200 megapixels', share=0.002)
def huge(rng: Random, folder: Path) -> Attempt:
    Image.new('1', (20000, 10000)).save(folder / 'a.png')

    def run() -> None:
        (prediction,) = inferencer()(str(folder / 'a.png'), 'circle')['predictions']
        assert prediction['mask'].shape == (10000, 20000)

    return Attempt(run)


@accepted('images', '200 megapixels, before training', 'no problem', share=0.002)
def huge_looked_at(rng: Random, folder: Path) -> Attempt:
    Image.new('1', (20000, 10000)).save(folder / 'a.png')

    def run() -> None:
        assert image_problem(str(folder / 'a.png'), 10000, 20000) is None
        assert read_mask(str(folder / 'a.png'), 10000, 20000).shape == (10000, 20000)

    return Attempt(run)


@refused('images', 'more than 2^30 pixels', 'file, megapixels, the limit', share=0.4)
def too_large(rng: Random, folder: Path) -> Attempt:
    height, width = rng.randint(2**15, 2**16 - 1), rng.randint(2**15 + 1, 2**16 - 1)
    (folder / 'a.png').write_bytes(png_of(height, width))
    megapixels = f'has {height * width / 1e6:,.0f} megapixels; the limit is 1,074'
    assert megapixels in image_problem(str(folder / 'a.png'), height, width)
    return Attempt(lambda: read_image(str(folder / 'a.png')), ('a.png', megapixels))


@accepted(
    'images',
    'each EXIF orientation, before training (`--check-images`, check.py)',
    'no report if the sizes show that the annotation is rotated like the picture, else one',
)
def looked_at(rng: Random, folder: Path) -> Attempt:
    (height, width), orientation = size_of(rng), rng.randint(1, 8)
    shown = oriented(rng, folder, height, width, orientation, 'a.jpg').size[::-1]
    annotated = rng.choice([(height, width), shown])

    def run() -> None:
        path = str(folder / 'a.jpg')
        problem = image_problem(path, *annotated) or orientation_doubt(path)
        certain = orientation == 1 or annotated == shown != (height, width)
        assert problem is None if certain else 'EXIF' in problem, (orientation, shown, annotated, problem)

    return Attempt(run)


@accepted(
    'images', 'files truncated, damaged or not pictures, before training', 'no problem, or one line that describes it'
)
def damage_looked_at(rng: Random, folder: Path) -> Attempt:
    data, name = encoded(rng, 30, 40)
    how = rng.choice(['whole', 'cut', 'damaged', 'other'])
    contents = dict(
        whole=data, cut=cut(rng, data[:-32]), damaged=damage(rng, data), other=rng.choice([rng.randbytes(99), b''])
    )
    (folder / name).write_bytes(contents[how])

    def run() -> None:
        problem = image_problem(str(folder / name), 30, 40)
        assert how == 'damaged' or (problem is None) == (how == 'whole'), (how, problem)
        assert '\n' not in (problem or '')

    return Attempt(run)
