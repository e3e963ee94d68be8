"""Pictures through the pipeline of a data set, against Pillow's decoder, and through the inferencer."""

import io
import runpy
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import ERRORS, Attempt, accepted, cut, damage, either, refused
from PIL import Image, ImageOps
from subjects import LOAD, content, inferencer, open_set, reference, write_set

from dit_sam.datasets.images import image_problem, orientation_doubt, read_mask
from dit_sam.utils import read_image

# A box in the upper left quarter: turned or mirrored it lies elsewhere.
BOX = [1, 1, 4, 1, 4, 3, 1, 3]
ORIENTATION = 0x0112
# What is written and read back without loss.
EXACT = dict(
    png=('1', 'L', 'LA', 'P', 'RGB', 'RGBA'),
    bmp=('1', 'L', 'P', 'RGB'),
    tif=('1', 'L', 'P', 'RGB', 'CMYK'),
    gif=('L', 'P'),
    webp=('RGB', 'RGBA'),
    ppm=('RGB',),
    pgm=('L',),
)
LOSSY = dict(jpg=('L', 'RGB', 'CMYK', 'YCbCr'), webp=('RGB',), jp2=('RGB',))


def picture(rng: Random, height: int, width: int) -> Image.Image:
    """Blocks of noise."""
    noise = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return Image.fromarray(np.kron(noise, np.ones((4, 4, 1), np.uint8))[:height, :width])


def size_of(rng: Random) -> tuple[int, int]:
    return rng.randint(5, 60), rng.randint(5, 60)


@lru_cache
def readers() -> list[Callable[[str], np.ndarray]]:
    """What else opens pictures, BGR: the tools that draw and, where its runtime is installed, ONNX's example."""
    runtime = Path(__file__).parents[2] / 'tools' / 'deployment' / 'run_onnx.py'
    return [
        lambda path: read_image(path)[..., ::-1],
        *([runpy.run_path(str(runtime))['read_image']] if find_spec('onnxruntime') else []),
    ]


def load(folder: Path, name: str, height: int, width: int, box: list = BOX) -> tuple[np.ndarray, np.ndarray]:
    """What a data set makes of a picture: RGB (H, W, 3) and the mask (H, W)."""
    write_set(folder, content([box], height, width, name), [reference()])
    item = open_set(folder, pipeline=LOAD)[0]
    return item['inputs'].numpy()[::-1].transpose(1, 2, 0), item['data_samples'].gt_sem_seg.data[0].numpy()


def expect(folder: Path, name: str, expected: Image.Image, tolerance: int = 0) -> Attempt:
    """Data sets and tools read these pixels, and the mask lies on them; the inferencer's mask has their size."""
    pixels = np.asarray(expected.convert('RGB')).astype(int)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[1:3, 1:4] = True

    def run() -> None:
        found, truth = load(folder, name, *mask.shape)
        assert abs(found.astype(int) - pixels).max() <= tolerance, name
        assert (truth == mask).all()
        assert all((read(str(folder / name)) == found[..., ::-1]).all() for read in readers()), name
        # Sides of less than a pixel at the size of the network are another form.
        if max(mask.shape) < 48 * min(mask.shape):
            (prediction,) = inferencer()(str(folder / name), 'circle')['predictions']
            assert prediction['mask'].shape == mask.shape

    return Attempt(run)


def refuse(folder: Path, name: str, size: tuple[int, int] = (10, 12)) -> Attempt:
    """The data set refuses a file, and so do the inferencer, tools, and a check before training."""

    def run() -> None:
        assert image_problem(str(folder / name), *size), 'a check takes it'
        for read in (*readers(), lambda path: inferencer()(path, 'circle')):
            try:
                read(str(folder / name))
            except (OSError, ValueError) as error:
                assert name in str(error) and '\n' not in str(error), error
            else:
                raise AssertionError('the inferencer or a tool takes it')
        load(folder, name, *size)

    return Attempt(run, (name,))


@accepted(
    'images',
    'PNG, BMP, TIFF, GIF, WebP, PPM: 1 bit, grey, palette, RGB, alpha, CMYK',
    "Pillow's pixels; alpha is left out",
    share=0.4,
)
def exact(rng: Random, folder: Path) -> Attempt:
    suffix = rng.choice(list(EXACT))
    image = picture(rng, *size_of(rng)).convert(rng.choice(EXACT[suffix]))
    if 'A' in image.mode:
        image.putalpha(Image.fromarray(np.full(image.size[::-1], rng.randint(0, 255), np.uint8)))
    image.save(folder / f'a.{suffix}', **(dict(lossless=True, exact=True) if suffix == 'webp' else {}))
    opaque = image.convert('RGBA').convert('RGB') if 'A' in image.mode else Image.open(folder / f'a.{suffix}')
    return expect(folder, f'a.{suffix}', opaque, tolerance=1 if image.mode == 'CMYK' else 0)


@accepted('images', 'TIFF with alpha', 'colours times alpha, as OpenCV has them', share=0.4)
def tiff_with_alpha(rng: Random, folder: Path) -> Attempt:
    image, alpha = picture(rng, *size_of(rng)), rng.randint(0, 255)
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    with_alpha.save(folder / 'a.tif')
    return expect(folder, 'a.tif', image.point(lambda value: value * alpha / 255), tolerance=1)


@accepted(
    'images',
    'JPEG (grey, RGB, CMYK, YCbCr, progressive), JPEG 2000, WebP, of any quality',
    "Pillow's pixels, but for 3 of 255",
    share=0.4,
)
def lossy(rng: Random, folder: Path) -> Attempt:
    suffix = rng.choice(list(LOSSY))
    options = dict(
        jpg=dict(quality=rng.randint(5, 95), progressive=rng.random() < 0.5, subsampling=rng.randint(0, 2)),
        webp=dict(quality=rng.randint(5, 95)),
        jp2={},
    )
    picture(rng, *size_of(rng)).convert(rng.choice(LOSSY[suffix])).save(folder / f'a.{suffix}', **options[suffix])
    return expect(folder, f'a.{suffix}', Image.open(folder / f'a.{suffix}'), tolerance=3)


@accepted('images', '16 bits a channel, PNG and TIFF', 'the higher eight bits', share=0.4)
def deep_colour(rng: Random, folder: Path) -> Attempt:
    values = np.random.default_rng(rng.getrandbits(32)).integers(0, 2**16, size_of(rng), np.uint16)
    name = rng.choice(['a.png', 'a.tif'])
    Image.fromarray(values).save(folder / name)
    return expect(folder, name, Image.fromarray((values >> 8).astype(np.uint8)), tolerance=1)


@accepted('images', 'one pixel, one row, one column', "Pillow's pixels")
def thin(rng: Random, folder: Path) -> Attempt:
    height, width = rng.choice([(1, 1), (1, rng.randint(2, 200)), (rng.randint(2, 200), 1)])
    image = picture(rng, height, width)
    image.save(folder / 'a.png')

    def run() -> None:
        found, truth = load(folder, 'a.png', height, width, [0, 0, 1, 0, 1, 1, 0, 1])
        assert (found == np.asarray(image)).all()
        assert truth.shape == (height, width) and truth[0, 0] == truth.sum() == 1

    return Attempt(run)


@either(
    'images', 'pictures 1 to 4,000 times as wide as high', 'a mask of their size, or the file and its size', share=0.4
)
def narrow(rng: Random, folder: Path) -> Attempt:
    height, width = rng.randint(1, 3), int(4000 ** rng.random())
    image = picture(rng, height, width)
    image = image if rng.random() < 0.5 else image.transpose(Image.Transpose.ROTATE_90)
    image.save(folder / 'a.png')

    def run() -> None:
        (prediction,) = inferencer()(str(folder / 'a.png'), 'circle')['predictions']
        assert prediction['mask'].shape == image.size[::-1]

    return Attempt(run, ('a.png', 'too narrow'))


def oriented(rng: Random, folder: Path, height: int, width: int, orientation: int, name: str) -> Image.Image:
    image, exif = picture(rng, height, width), Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(folder / name, exif=exif, **(dict(quality=95) if name.endswith('jpg') else {}))
    return ImageOps.exif_transpose(Image.open(folder / name))


@accepted(
    'images',
    'each of the eight EXIF orientations, annotated as they are shown',
    'the picture as it is shown',
    share=0.4,
)
def exif(rng: Random, folder: Path) -> Attempt:
    name = rng.choice(['a.jpg', 'a.png', 'a.tif'])
    return expect(folder, name, oriented(rng, folder, *size_of(rng), rng.randint(1, 8), name), tolerance=3)


@refused('images', 'EXIF orientations that turn, annotated as they are stored', 'file, annotation, what to do')
def exif_of_the_stored(rng: Random, folder: Path) -> Attempt:
    height, width = size_of(rng)
    height += height == width
    oriented(rng, folder, height, width, rng.randint(5, 8), 'a.jpg')
    return Attempt(lambda: load(folder, 'a.jpg', height, width), ('a.jpg', 'annotation 7', 'EXIF'))


@refused('images', 'pictures of another size than their annotation', 'file, annotation, both sizes')
def other_size(rng: Random, folder: Path) -> Attempt:
    height, width = size_of(rng)
    picture(rng, height, width).save(folder / 'a.png')
    other = rng.choice([(height + 1, width), (height, width + 3), (2 * height, 2 * width)])
    return Attempt(lambda: load(folder, 'a.png', *other), ('a.png', 'annotation 7', f'({height}, {width})', str(other)))


@accepted('images', 'suffixes that do not belong to the format', 'told from the content', share=0.4)
def suffix(rng: Random, folder: Path) -> Attempt:
    image, name = picture(rng, *size_of(rng)), rng.choice(['a.jpg', 'a.gif', 'a.tif', 'a', 'a.txt', 'a b.é', 'a.JPG'])
    image.save(folder / name, rng.choice(['PNG', 'BMP', 'PPM']))
    return expect(folder, name, image)


@accepted('images', 'animated GIF', 'the first picture', share=0.4)
def animated(rng: Random, folder: Path) -> Attempt:
    height, width = size_of(rng)
    first, *others = [picture(rng, height, width).quantize(16) for _ in range(rng.randint(2, 4))]
    first.save(folder / 'a.gif', save_all=True, append_images=others, duration=50, loop=0)
    return expect(folder, 'a.gif', Image.open(folder / 'a.gif'))


def encoded(rng: Random, height: int, width: int) -> tuple[bytes, str]:
    suffix = rng.choice(['jpg', 'jpg', 'png', 'png', 'bmp', 'gif', 'tif', 'webp', 'ppm', 'jp2'])
    buffer = io.BytesIO()
    form = dict(jpg='JPEG', tif='TIFF', jp2='JPEG2000').get(suffix, suffix.upper())
    options = dict(progressive=rng.random() < 0.5) if suffix == 'jpg' else {}
    picture(rng, height, width).save(buffer, form, **options)
    return buffer.getvalue(), f'a.{suffix}'


@refused('images', 'JPEG, PNG, BMP, GIF, TIFF, WebP, PPM, JPEG 2000 cut off at any byte', 'file', share=0.4)
def cut_image(rng: Random, folder: Path) -> Attempt:
    height, width = rng.randint(10, 300), rng.randint(10, 300)
    data, name = encoded(rng, height, width)
    # What follows the last pixel is not missed: end marks, check sums and TIFF's table, which precedes the pixels.
    (folder / name).write_bytes(cut(rng, data[:-32]))
    return refuse(folder, name, (height, width))


@either('images', 'the same with changed, lost and added bytes', 'a picture of its size, or the file')
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
    """A PNG whose head says this size; what follows is empty."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')


@refused('images', 'heads that lie: 0 or up to 2^31 pixels a side, and nothing behind', 'file', share=0.4)
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


@accepted('images', 'Pillow images of every mode that it makes RGB of, La too', 'a mask of their size', share=0.4)
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


@refused('images', 'more than 2^30 pixels', 'file, megapixels, how many are allowed', share=0.4)
def too_large(rng: Random, folder: Path) -> Attempt:
    height, width = rng.randint(2**15, 2**16 - 1), rng.randint(2**15 + 1, 2**16 - 1)
    (folder / 'a.png').write_bytes(png_of(height, width))
    megapixels = f'has {height * width / 1e6:,.0f} megapixels; the limit is 1,074'
    assert megapixels in image_problem(str(folder / 'a.png'), height, width)
    return Attempt(lambda: read_image(str(folder / 'a.png')), ('a.png', megapixels))


@accepted(
    'images',
    'each EXIF orientation, before training (`--check-images`, check.py)',
    'nothing where the size tells that the annotation is turned as the picture is, else words',
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


@accepted('images', 'files cut off, damaged or no pictures, before training', 'no problem or one in words, in a line')
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
