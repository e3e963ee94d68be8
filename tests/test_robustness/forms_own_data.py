"""Lines of JSON with boxes and mask images, and the prepared files."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import Attempt, accepted, cut, damage, either, junk, misspell, refused
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors import safe_open
from safetensors.numpy import load_file, save
from subjects import GOOD, LOAD, open_set, read_all, reference, write_set

from dit_sam.datasets import ReferringDataset, ReferringJSONDataset
from dit_sam.datasets.columns import make_column

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


@accepted('own data', 'boxes of whole and fractional pixels', 'the pixels whose middle is inside, but for a pixel')
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


@refused('own data', 'boxes that are turned over, empty, endless or no four numbers', 'file, line')
def odd_boxes(rng: Random, folder: Path) -> Attempt:
    box = [2, 2, 7, 6]
    box[rng.randrange(2, 4)] = rng.choice([0, -1, -0.5, None, 'x', float('nan'), float('inf'), 1e9, 2**70, [1]])
    box = rng.choice([box, [2, 2, 7], [2, 2, 7, 6, 1], {}, 'box', None, True, junk(rng)])
    record = dict(line(), bbox=box)
    return Attempt(lambda: read_lines(folder, as_lines(line(), record)), (LINES, 'line 2'))


@either('own data', 'lines with a value replaced', 'all items have masks, or the file and the line are named')
def spoilt_line(rng: Random, folder: Path) -> Attempt:
    record = line(image_id=5, category_id=1, kind='place')
    record[rng.choice(list(record))] = junk(rng)
    return Attempt(lambda: read_lines(folder, as_lines(line(), record)), (LINES, 'line 2'))


@refused('own data', 'lines whose image, sentence or mask is misspelt', 'file, line')
def misspelt_line(rng: Random, folder: Path) -> Attempt:
    record, key = line(), rng.choice(['image', 'sentence', 'bbox'])
    record[misspell(rng, key)] = record.pop(key)
    return Attempt(lambda: read_lines(folder, as_lines(line(), record)), (LINES, 'line 2'))


@either(
    'own data', 'files with changed, lost and added bytes', 'all items have masks, or the file and the line are named'
)
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


@accepted('own data', 'mask images: 1, 8 and 16 bits, palettes, floats, several suffixes', 'the pixels that are not 0')
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
    'photographs of each EXIF orientation without sizes in their lines, annotated as shown',
    'the picture and the mask as shown',
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


@refused('own data', 'mask images of another size, with channels, cut off, missing, or no images', 'file, line, mask')
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


def prepared(rng: Random, folder: Path) -> bytes:
    """A prepared file of two items, with their polygons or without."""
    write_set(folder, GOOD, [reference(1), reference(2)])
    open_set(folder, keep_outlines=rng.random() < 0.5).table.save(folder / PREPARED)
    return (folder / PREPARED).read_bytes()


def read_prepared(folder: Path, data: bytes) -> list[dict]:
    (folder / PREPARED).write_bytes(data)
    return read_all(ReferringDataset(PREPARED, str(folder), test_mode=True))


@refused('own data', 'prepared files cut off at any byte', 'file')
def cut_prepared(rng: Random, folder: Path) -> Attempt:
    return Attempt(lambda data=cut(rng, prepared(rng, folder)): read_prepared(folder, data), (PREPARED,))


@either('own data', 'prepared files with changed, lost and added bytes', 'all items have masks, or the file is named')
def damaged_prepared(rng: Random, folder: Path) -> Attempt:
    return Attempt(lambda data=damage(rng, prepared(rng, folder)): read_prepared(folder, data), (PREPARED,))


@refused('own data', 'prepared files whose header lies: length, offsets, shapes, types', 'file')
def lying_header(rng: Random, folder: Path) -> Attempt:
    data = prepared(rng, folder)
    size = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + size])
    name = rng.choice([name for name in header if name != '__metadata__'])
    wrong = rng.choice(['length', 'offsets', 'shape', 'dtype'])
    if wrong == 'offsets':
        header[name]['data_offsets'][rng.randrange(2)] += rng.choice([-1, 1, 8, 2**40, 2**63])
    elif wrong == 'shape':
        header[name]['shape'] = rng.choice([[-1], [2**62, 4], [1, *header[name]['shape'], 7], [], ['x'], None, [2**63]])
    elif wrong == 'dtype':
        header[name]['dtype'] = rng.choice(['F4', 'I128', '', None, 'OBJECT'])
    text = json.dumps(header).encode()
    length = rng.choice([0, 2**63, 2**40, size - 1, 10**8 + 1]) if wrong == 'length' else len(text)
    return Attempt(lambda: read_prepared(folder, length.to_bytes(8, 'little') + text + data[8 + size :]), (PREPARED,))


@either('own data', 'prepared files with a number in a column changed', 'all items have masks, or the file is named')
def changed_column(rng: Random, folder: Path) -> Attempt:
    prepared(rng, folder)
    with safe_open(folder / PREPARED, framework='np') as file:
        metadata = file.metadata()
    columns = load_file(folder / PREPARED)
    name = rng.choice(list(columns))
    column = columns[name].copy()
    column[rng.randrange(len(column))] = rng.choice(
        [0, 1, 2, 100, 255] if column.dtype == np.uint8 else [-(2**63), -1, 0, 1, 2, 3, 100, 2**31, 2**62]
    )
    columns[name] = rng.choice([column, column[:-1], np.append(column, column[:1]), column.astype(np.float32), column])
    return Attempt(lambda: read_prepared(folder, save(columns, metadata)), (PREPARED,))


@either(
    'own data',
    'prepared files with polygons replaced, drawn anew as LAVT and ReLA do',
    'a mask, or the file or the annotation is named',
)
def odd_outlines(rng: Random, folder: Path) -> Attempt:
    write_set(folder, GOOD, [reference()])
    table = open_set(folder, keep_outlines=True).table
    good = [[2, 2, 9, 2, 9, 8, 2, 8]]
    outlines = rng.choice(
        [
            [good],
            [good, good],
            [junk(rng)],
            [[junk(rng)]],
            [good, junk(rng)],
            junk(rng),
            [dict(size=[10, 12], counts=[120])],
            [dict(size=[12, 10], counts=junk(rng))],
        ]
    )
    text = rng.choice([json.dumps(outlines), json.dumps([good])[: rng.randint(1, 30)], '[' * 10**5])
    table.columns['targets.outlines'] = make_column('outlines', [text])
    table.save(folder / PREPARED)
    steps = [dict(LOAD[1], covered_twice=rng.random() < 0.5, scaled_side=8)]

    def run() -> None:
        dataset = ReferringDataset(PREPARED, str(folder), test_mode=True, pipeline=steps)
        results = dataset.pipeline(dict(dataset.get_data_info(0), ori_shape=(10, 12)))
        assert results['gt_seg_map'].shape == (10, 12) and results['gt_seg_map'].max() <= 1
        assert coco_mask.decode(results['scaled_truth']).shape == (8, 8)

    return Attempt(run)


@refused('own data', 'files of weights and others as prepared files', 'file')
def other_prepared(rng: Random, folder: Path) -> Attempt:
    weights = save(dict(weight=np.zeros(3)), dict(dit_sam=json.dumps(junk(rng))))
    data = rng.choice([weights, b'', b'{}', rng.randbytes(200), b'\x00' * 100, b'\x02' + bytes(7) + b'{}'])
    return Attempt(lambda: read_prepared(folder, data), (PREPARED,))
