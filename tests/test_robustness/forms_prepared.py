"""Prepared files."""

import json
from pathlib import Path
from random import Random

import numpy as np
from forms_own_data import PREPARED
from fuzzing import Attempt, cut, damage, either, junk, refused
from pycocotools import mask as coco_mask
from safetensors import safe_open
from safetensors.numpy import load_file, save
from subjects import GOOD, LOAD, open_set, read_all, reference, write_set

from dit_sam.datasets import ReferringDataset
from dit_sam.datasets.columns import make_column


def prepared(rng: Random, folder: Path) -> bytes:
    """A prepared file of two items, with their polygons or without."""
    write_set(folder, GOOD, [reference(1), reference(2)])
    open_set(folder, keep_outlines=rng.random() < 0.5).table.save(folder / PREPARED)
    return (folder / PREPARED).read_bytes()


def read_prepared(folder: Path, data: bytes) -> list[dict]:
    (folder / PREPARED).write_bytes(data)
    return read_all(ReferringDataset(PREPARED, str(folder), test_mode=True))


@refused('own data', 'prepared files truncated at any byte', 'file')
def cut_prepared(rng: Random, folder: Path) -> Attempt:
    return Attempt(lambda data=cut(rng, prepared(rng, folder)): read_prepared(folder, data), (PREPARED,))


@either('own data', 'prepared files with changed, removed and added bytes', 'masks for all items, or file')
def damaged_prepared(rng: Random, folder: Path) -> Attempt:
    return Attempt(lambda data=damage(rng, prepared(rng, folder)): read_prepared(folder, data), (PREPARED,))


@refused('own data', 'prepared files with a wrong header: length, offsets, shapes, types', 'file')
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


@either('own data', 'prepared files with a number in a column changed', 'masks for all items, or file')
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


@either('own data', 'prepared files with polygons replaced, drawn as LAVT and ReLA do', 'a mask, or file or annotation')
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


@refused('own data', 'weights and other files as prepared files', 'file')
def other_prepared(rng: Random, folder: Path) -> Attempt:
    weights = save(dict(weight=np.zeros(3)), dict(dit_sam=json.dumps(junk(rng))))
    data = rng.choice([weights, b'', b'{}', rng.randbytes(200), b'\x00' * 100, b'\x02' + bytes(7) + b'{}'])
    return Attempt(lambda: read_prepared(folder, data), (PREPARED,))
