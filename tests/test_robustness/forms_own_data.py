"""Lines of JSON with boxes and mask images, and the prepared files."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import Attempt, accepted, cut, damage, either, junk, misspell, refused
from PIL import Image
from subjects import LOAD, read_all

from dit_sam.datasets import ReferringJSONDataset

LINES, PREPARED = 'mine.jsonl', 'mine.safetensors'
HEIGHT, WIDTH = 10, 12


def line(**more: Any) -> dict:
    return dict(image='a.png', sentence='the box', bbox=[2, 2, 7, 6], height=HEIGHT, width=WIDTH, **more)


def with_mask(name: str) -> dict:
    record = line(mask=name)
    del record['bbox']
    return record


def read_lines(folder: Path, data: bytes) -> list[dict]:
    (folder / LINES).write_bytes(data)
    return read_all(ReferringJSONDataset(LINES, str(folder), test_mode=True))


def as_lines(*records: dict) -> bytes:
    return '\n'.join(map(json.dumps, records)).encode()


@accepted('own data', 'boxes of whole and fractional pixels', 'the pixels whose center is inside, within one pixel')
def boxes(rng: Random, folder: Path) -> Attempt:
    left, top = rng.uniform(0, WIDTH - 1), rng.uniform(0, HEIGHT - 1)
    width, height = rng.uniform(0.1, WIDTH - left), rng.uniform(0.1, HEIGHT - top)
    if rng.random() < 0.5:
        left, top, width, height = int(left), int(top), int(width) + 1, int(height) + 1
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    # How far inside (or, negative, outside) the nearest edge is.
    depth = np.minimum.reduce([columns - left, left + width - columns, rows - top, top + height - rows])

    def run() -> None:
        (item,) = read_lines(folder, as_lines(dict(line(), bbox=[left, top, width, height])))
        exact = isinstance(left, int)
        assert ((item['mask'] == (depth > 0)) | (not exact and abs(depth) <= 1)).all()

    return Attempt(run)


@refused('own data', 'boxes that are inverted, empty, infinite or not four numbers', 'file, line')
def odd_boxes(rng: Random, folder: Path) -> Attempt:
    box = [2, 2, 7, 6]
    box[rng.randrange(2, 4)] = rng.choice([0, -1, -0.5, None, 'x', float('nan'), float('inf'), 1e9, 2**70, [1]])
    box = rng.choice([box, [2, 2, 7], [2, 2, 7, 6, 1], {}, 'box', None, True, junk(rng)])
    record = dict(line(), bbox=box)
    return Attempt(lambda: read_lines(folder, as_lines(line(), record)), (LINES, 'line 2'))


@either('own data', 'lines with a value replaced', 'masks for all items, or file, line')
def spoiled_line(rng: Random, folder: Path) -> Attempt:
    record = line(image_id=5, category_id=1, kind='place')
    record[rng.choice(list(record))] = junk(rng)
    return Attempt(lambda: read_lines(folder, as_lines(line(), record)), (LINES, 'line 2'))


@refused('own data', 'lines with a misspelled key for image, sentence or mask', 'file, line')
def misspelled_line(rng: Random, folder: Path) -> Attempt:
    record, key = line(), rng.choice(['image', 'sentence', 'bbox'])
    record[misspell(rng, key)] = record.pop(key)
    return Attempt(lambda: read_lines(folder, as_lines(line(), record)), (LINES, 'line 2'))


@either('own data', 'files with changed, removed and added bytes', 'masks for all items, or file, line')
def damaged_lines(rng: Random, folder: Path) -> Attempt:
    return Attempt(lambda data=damage(rng, as_lines(line(), line())): read_lines(folder, data), (LINES,))


@refused('own data', 'other files: empty, HTML, images, UTF-16', 'file')
def other_lines(rng: Random, folder: Path) -> Attempt:
    data = rng.choice(
        [
            b'',
            b'\n \n',
            b'<html>',
            rng.randbytes(100),
            '{"image": "a.png"}'.encode('utf-16'),
            b'[' * 10**5,
            b'\x00' * 100,
            b'{"image": "\\ud800"}',
            json.dumps([line()]).encode(),
        ]
    )
    return Attempt(lambda: read_lines(folder, data), (LINES,))


@accepted('own data', 'mask images: 1, 8 and 16 bits, palettes, floats, several formats', 'the pixels that are not 0')
def mask_images(rng: Random, folder: Path) -> Attempt:
    mask = np.random.default_rng(rng.getrandbits(32)).integers(0, 2, (HEIGHT, WIDTH), dtype=np.uint8)
    mode, suffix = rng.choice(
        [
            ('1', 'png'),
            ('L', 'png'),
            ('L', 'bmp'),
            ('L', 'tif'),
            ('P', 'png'),
            ('P', 'gif'),
            ('I;16', 'png'),
            ('I;16', 'tif'),
            ('F', 'tif'),
            ('1', 'bmp'),
        ]
    )
    value = rng.choice([1, 7, 255])
    image = Image.fromarray(mask.astype(bool) if mode == '1' else mask * np.uint8(value))
    if mode == 'P':
        image.putpalette(rng.randbytes(768))
    elif mode == 'I;16':
        image = Image.fromarray(mask.astype(np.uint16) * 257)
    elif mode == 'F':
        image = Image.fromarray(mask.astype(np.float32) * 0.5)
    image.save(folder / f'mask.{suffix}')

    def run() -> None:
        (item,) = read_lines(folder, as_lines(with_mask(f'mask.{suffix}')))
        assert (item['mask'] == mask).all(), (mode, suffix)

    return Attempt(run)


@accepted(
    'own data',
    'photographs of each EXIF orientation, lines without sizes, annotated as displayed',
    'the picture and the mask as displayed',
)
def without_sizes(rng: Random, folder: Path) -> Attempt:
    values = np.random.default_rng(rng.getrandbits(32))
    shown = values.integers(0, 2, (rng.randint(1, 20), rng.randint(1, 20)), dtype=np.uint8)
    orientation, exif = rng.randint(1, 8), Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(shown)
    if orientation > 1:
        back = dict(
            enumerate('FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_90 TRANSVERSE ROTATE_270'.split(), 2)
        )[orientation]
        stored = stored.transpose(Image.Transpose[back])
    stored.save(folder / 'photo.png', exif=exif)
    runs = np.flatnonzero(np.diff(shown.T.ravel(), prepend=0, append=2)).tolist()
    meant = rng.choice(
        [dict(mask='mask.png'), dict(segmentation=dict(size=list(shown.shape), counts=np.diff([0, *runs]).tolist()))]
    )
    Image.fromarray(shown).save(folder / 'mask.png')

    def run() -> None:
        (folder / LINES).write_bytes(as_lines(dict(image='photo.png', sentence='the box', **meant)))
        item = ReferringJSONDataset(LINES, str(folder), test_mode=True, pipeline=LOAD)[0]
        assert (item['inputs'].numpy() == shown).all(), orientation
        assert (item['data_samples'].gt_sem_seg.data.numpy() == shown).all(), orientation

    return Attempt(run)


@refused(
    'own data', 'mask images of another size, with channels, truncated, missing, or not images', 'file, line, mask'
)
def odd_mask_images(rng: Random, folder: Path) -> Attempt:
    path = folder / 'mask.png'
    path.unlink(missing_ok=True)
    good = Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8))
    wrong = rng.choice(['turned', 'RGB', 'RGBA', 'LA', 'cut', 'empty', 'text', 'missing', 'folder'])
    name = 'masks' if wrong == 'folder' else 'mask.png'
    if wrong == 'turned':
        good.transpose(Image.Transpose.ROTATE_90).save(path)
    elif wrong in ('RGB', 'RGBA', 'LA'):
        good.convert(wrong).save(path)
    elif wrong == 'cut':
        good.save(path)
        path.write_bytes(cut(rng, path.read_bytes()[:-24]))  # pixels, not only IEND and check sums
    elif wrong in ('empty', 'text'):
        path.write_bytes(b'' if wrong == 'empty' else b'<html>')
    elif wrong == 'folder':
        (folder / name).mkdir(exist_ok=True)
    return Attempt(lambda: read_lines(folder, as_lines(with_mask(name))), (LINES, 'line 1', name))
