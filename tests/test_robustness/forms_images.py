"""Pictures through the pipeline of a data set, against Pillow's decoder, and through the inferencer."""

import runpy
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
from fuzzing import Attempt, accepted, either, refused
from PIL import Image, ImageOps
from subjects import LOAD, content, inferencer, open_set, reference, write_set

from dit_sam.datasets.images import image_problem
from dit_sam.utils import read_image

# A box in the upper left quarter, which moves if the picture is rotated or mirrored.
BOX = [1, 1, 4, 1, 4, 3, 1, 3]
ORIENTATION = 0x0112
# Modes that are written and read without loss.
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
    """Other readers of pictures, BGR: the drawing tools and, if its runtime is installed, the ONNX example."""
    runtime = Path(__file__).parents[2] / 'tools' / 'deployment' / 'run_onnx.py'
    return [
        lambda path: read_image(path)[..., ::-1],
        *([runpy.run_path(str(runtime))['read_image']] if find_spec('onnxruntime') else []),
    ]


def load(folder: Path, name: str, height: int, width: int, box: list = BOX) -> tuple[np.ndarray, np.ndarray]:
    """The item that a data set makes of a picture: RGB (H, W, 3) and the mask (H, W)."""
    write_set(folder, content([box], height, width, name), [reference()])
    item = open_set(folder, pipeline=LOAD)[0]
    return item['inputs'].numpy()[::-1].transpose(1, 2, 0), item['data_samples'].gt_sem_seg.data[0].numpy()


def expect(folder: Path, name: str, expected: Image.Image, tolerance: int = 0) -> Attempt:
    """Data sets and tools read these pixels, with the mask in the right place; the inferencer's mask has their size."""
    pixels = np.asarray(expected.convert('RGB')).astype(int)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[1:3, 1:4] = True

    def run() -> None:
        found, truth = load(folder, name, *mask.shape)
        assert abs(found.astype(int) - pixels).max() <= tolerance, name
        assert (truth == mask).all()
        assert all((read(str(folder / name)) == found[..., ::-1]).all() for read in readers()), name
        # Pictures whose side is less than a pixel at the network's size are tested by another form.
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
    'PNG, BMP, TIFF, GIF, WebP, PPM: 1 bit, gray, palette, RGB, alpha, CMYK',
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


@accepted('images', 'TIFF with alpha', 'colors times alpha, as OpenCV computes them', share=0.4)
def tiff_with_alpha(rng: Random, folder: Path) -> Attempt:
    image, alpha = picture(rng, *size_of(rng)), rng.randint(0, 255)
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    with_alpha.save(folder / 'a.tif')
    return expect(folder, 'a.tif', image.point(lambda value: value * alpha / 255), tolerance=1)


@accepted(
    'images',
    'JPEG (gray, RGB, CMYK, YCbCr, progressive), JPEG 2000, WebP, of any quality',
    "Pillow's pixels, within 3 of 255",
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
def deep_color(rng: Random, folder: Path) -> Attempt:
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


@either('images', 'pictures 1 to 4,000 times as wide as high', 'a mask of their size, or file, size', share=0.4)
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
    'images', 'each of the eight EXIF orientations, annotated as displayed', 'the picture as displayed', share=0.4
)
def exif(rng: Random, folder: Path) -> Attempt:
    name = rng.choice(['a.jpg', 'a.png', 'a.tif'])
    return expect(folder, name, oriented(rng, folder, *size_of(rng), rng.randint(1, 8), name), tolerance=3)


@refused('images', 'rotating EXIF orientations, annotated as stored', 'file, annotation, what to do')
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


@accepted('images', 'suffixes of another format', 'recognized by content', share=0.4)
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
