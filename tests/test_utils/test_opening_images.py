"""Images are decoded in one way by data sets, checks before training, tools and the ONNX example."""

import json
import runpy
import struct
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from dit_sam.datasets import ReferringJSONDataset
from dit_sam.datasets.images import image_problem, image_size, orientation_doubt, read_mask
from dit_sam.errors import InputError
from dit_sam.utils import decode_image, read_image

RUNTIME = Path(__file__).parents[2] / 'tools' / 'deployment' / 'run_onnx.py'
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
# What comes out: 30 rows of 20 pixels.
HEIGHT, WIDTH = 30, 20


def through_a_data_set(path: Path) -> np.ndarray:
    line = dict(image=path.name, sentence='it', bbox=[1, 1, 3, 3], height=HEIGHT, width=WIDTH)
    (path.parent / 'mine.jsonl').write_text(json.dumps(line))
    data = ReferringJSONDataset('mine.jsonl', str(path.parent), test_mode=True, pipeline=PIPELINE)
    return data[0]['inputs'].numpy().transpose(1, 2, 0)


def through_a_check(path: Path) -> np.ndarray:
    problem = image_problem(str(path), HEIGHT, WIDTH)
    if problem:
        raise InputError(f'{path} {problem}')
    return read_image(str(path))[..., ::-1]


def through_run_onnx(path: Path) -> np.ndarray:
    pytest.importorskip('onnxruntime')
    return runpy.run_path(str(RUNTIME))['read_image'](str(path))


WAYS = [through_a_data_set, through_a_check, through_run_onnx]


@pytest.fixture
def photo(tmp_path) -> Path:
    """20 rows of 30 pixels as stored, to be shown turned by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (WIDTH, HEIGHT, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.jpg', exif=exif, quality=90)
    return tmp_path / 'a.jpg'


@pytest.mark.parametrize('way', WAYS)
def test_a_picture_is_decoded_as_shown(photo, way):
    pixels = way(photo)
    assert (pixels == cv2.imread(str(photo))).all() and pixels.shape == (HEIGHT, WIDTH, 3)


def plain(image: Image.Image, exif: Image.Exif, suffix: str) -> bytes:
    image.save(file := BytesIO(), {'jpg': 'JPEG', 'tif': 'TIFF'}.get(suffix, suffix), exif=exif)
    return file.getvalue()


def behind_the_pixels(image: Image.Image, exif: Image.Exif, suffix: str) -> bytes:
    """As ImageMagick may write it: the chunk of the tag comes after all others except the last, of 12 bytes."""
    data = plain(image, exif, suffix)
    start = data.index(b'eXIf') - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], 'big')
    return data[:start] + data[end:-12] + data[start:end] + data[-12:]


def in_xmp_alone(image: Image.Image, exif: Image.Exif, suffix: str) -> bytes:
    """Pillow reads this one, OpenCV does not."""
    info = PngInfo()
    info.add_itxt('XML:com.adobe.xmp', f'<x tiff:Orientation="{exif[0x0112]}"/>')
    image.save(file := BytesIO(), suffix, pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(
    'write, suffix',
    [
        (plain, 'jpg'),
        (plain, 'png'),
        (plain, 'webp'),
        (plain, 'tif'),
        (plain, 'avif'),
        (behind_the_pixels, 'png'),
        (in_xmp_alone, 'png'),
    ],
)
def test_the_size_in_the_header_matches_the_pixels(tmp_path, write, suffix, orientation):
    """The pixels are those decoded by OpenCV, even if Pillow treats the tag differently. Also for mask images."""
    if suffix in ('webp', 'avif') and not features.check(suffix):
        pytest.skip(f'this Pillow writes no {suffix}')
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255  # a block of a JPEG
    path = tmp_path / f'a.{suffix}'
    path.write_bytes(write(Image.fromarray(stored), exif, suffix))
    try:
        shown = decode_image(path.read_bytes())
    except ValueError:
        pytest.skip(f'this OpenCV reads no {suffix}')
    height, width = shown.shape[:2]
    assert image_size(str(path)) == (height, width) and image_problem(str(path), height, width) is None
    assert (
        image_problem(str(path), height + 1, width) == f'is {height} x {width}, not {height + 1} x {width} '
        '(height x width)'
    )
    turned = (height, width) != stored.shape
    if turned:
        assert 'turned by its EXIF tag' in image_problem(str(path), *stored.shape)
    moved = not turned and (shown[..., 0] > 128).tolist() != (stored > 128).tolist()
    assert (f'EXIF tag ({orientation})' in (orientation_doubt(str(path)) or '')) == moved
    if suffix not in ('webp', 'avif'):  # their pixels have three channels
        assert (read_mask(str(path), height, width) == (shown[..., 0] > 128)).all()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_end_mark(data: bytes) -> bytes:
    return data[:-2]


def of_floats(_: bytes) -> bytes:
    return cv2.imencode('.tiff', np.zeros((HEIGHT, WIDTH), np.float32))[1].tobytes()


def too_large(_: bytes) -> bytes:
    """A BMP whose header says 40,000 x 40,000, without pixel data."""
    return struct.pack('<2sIHHIIiiHHIIiiII', b'BM', 54, 0, 0, 54, 40, 40000, 40000, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('damage', [half, without_end_mark, of_floats, too_large])
def test_incompletely_decodable_images_are_refused(photo, way, damage):
    photo.write_bytes(damage(photo.read_bytes()))
    said = 'megapixels|pixels' if damage is too_large else 'is damaged or cut off'
    with pytest.raises(ValueError, match=f'a.jpg.* {said}') as caught:
        way(photo)
    assert '\n' not in str(caught.value)


def test_a_too_large_picture_reports_the_limit(photo):
    """40,000 x 40,000 pixels, and 2^30 are allowed."""
    photo.write_bytes(too_large(b''))
    with pytest.raises(InputError, match='a.jpg cannot be decoded: it has 1,600 megapixels; the limit is 1,074'):
        read_image(str(photo))


def test_pillows_own_limit_does_not_apply(photo, tmp_path, monkeypatch):
    """It is 89 million pixels, and twice as many are an error; here it is set to 100, and a picture has 600."""
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    mask = np.eye(HEIGHT, WIDTH, dtype=bool)
    cv2.imwrite(str(tmp_path / 'mask.png'), mask * np.uint8(255))
    assert image_size(str(photo)) == (HEIGHT, WIDTH)
    assert image_problem(str(photo), HEIGHT, WIDTH) is None
    assert (read_mask(str(tmp_path / 'mask.png'), HEIGHT, WIDTH) == mask).all()
    assert Image.MAX_IMAGE_PIXELS == 100
