"""Masks as run lengths."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from forms_masks import NAMED, SAYS, expect, refuse, size_of
from fuzzing import Attempt, accepted, cut, damage, either, refused
from pycocotools import mask as coco_mask
from subjects import mask_of


def random_mask(rng: Random) -> np.ndarray:
    """Blocks, stripes, noise, or nothing."""
    height, width = size_of(rng)
    cells = np.random.default_rng(rng.getrandbits(32)).random((height, width)) < rng.choice([0, 0.01, 0.5, 0.99, 1])
    block = rng.choice([1, 2, 7])
    return np.kron(cells, np.ones((block, block)))[:height, :width].astype(np.uint8)


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed counts, computed independently."""
    flat, runs, value = mask.ravel(order='F').tolist(), [0], 0
    for pixel in flat:
        if pixel != value:
            runs, value = [*runs, 0], pixel
        runs[-1] += 1
    return runs


def rle(mask: np.ndarray, counts: Any) -> dict:
    return dict(size=list(mask.shape), counts=counts)


def compressed(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask))['counts'].decode()


@accepted('masks', 'run lengths, with runs of 0 between', 'exactly the encoded mask')
def uncompressed(rng: Random, folder: Path) -> Attempt:
    mask = random_mask(rng)
    runs = runs_of(mask)
    for _ in range(rng.randint(0, 2)):
        # a run in two, with nothing of the other value between
        place = rng.randrange(len(runs))
        part = rng.randint(0, runs[place])
        runs[place : place + 1] = [part, 0, runs[place] - part]
    return expect(folder, rle(mask, runs), mask)


@accepted('masks', 'compressed run lengths', 'exactly the encoded mask')
def compressed_counts(rng: Random, folder: Path) -> Attempt:
    mask = random_mask(rng)
    return expect(folder, rle(mask, compressed(mask)), mask)


@accepted('masks', 'lists of run-length codes', 'exactly their union')
def list_of_codes(rng: Random, folder: Path) -> Attempt:
    first = random_mask(rng)
    second = np.roll(first, (rng.randint(0, 9), rng.randint(0, 9)), (0, 1))
    return expect(folder, [rle(first, compressed(first)), rle(second, runs_of(second))], first | second)


@refused('masks', 'wrong run lengths: a sum too small or too large, negative, huge, fractions', SAYS)
def lying_runs(rng: Random, folder: Path) -> Attempt:
    mask = random_mask(rng)
    runs, place = runs_of(mask), 0
    place = rng.randrange(len(runs))
    wrong = rng.choice(
        [runs[place] + 1, runs[place] + 2**31, 2**63, 2**70, -1, -(2**40), runs[place] + 0.5, None, 'x', [1]]
    )
    runs[place : place + 1] = [wrong] if wrong != -1 else [runs[place] + 1, -1]
    return refuse(folder, rle(mask, runs), mask.shape)


@refused('masks', 'codes with a wrong size: swapped, larger, negative, missing', SAYS)
def lying_size(rng: Random, folder: Path) -> Attempt:
    mask = random_mask(rng)
    height, width = mask.shape
    size = rng.choice(
        [
            [height, width + 1],
            [height * width, 1],
            [-height, -width],
            [2**31, 2**31],
            [height],
            height,
            None,
            [height, width, 1],
            [str(height), width],
            [[height], width],
        ]
    )
    if size == [height, width]:
        size = [height + 1, width]
    wrong = dict(size=size, counts=rng.choice([compressed(mask), runs_of(mask)]))
    if rng.random() < 0.1:
        del wrong[rng.choice(['size', 'counts'])]
    return refuse(folder, wrong, mask.shape)


@refused('masks', 'counts that are neither a list nor a string', SAYS)
def odd_counts(rng: Random, folder: Path) -> Attempt:
    mask = random_mask(rng)
    return refuse(
        folder, rle(mask, rng.choice([None, 5, True, {}, 1.5, '', ' ', 'é', '\x00', '\ud800', 'o' * 100])), mask.shape
    )


def decoded_by_hand(counts: bytes, height: int, width: int) -> np.ndarray:
    """`rleFrString` and `rleDecode` of cocoapi's maskApi.c, one character at a time."""
    runs, place = [], 0
    while place < len(counts):
        run, shift, more = 0, 0, True
        while more:
            code = counts[place] - 48
            run |= (code & 31) << shift
            more, place, shift = bool(code & 32), place + 1, shift + 5
        run -= (1 << shift) if code & 16 else 0
        runs.append(run + runs[-2] if len(runs) > 2 else run)
    flat = np.concatenate([np.full(run, index % 2, np.uint8) for index, run in enumerate(runs)])
    return flat.reshape(width, height).T


def damaged_code(how: Callable) -> Callable:

    def make(rng: Random, folder: Path) -> Attempt:
        mask = random_mask(rng)
        counts = how(rng, compressed(mask).encode())

        def run() -> None:
            found = mask_of(folder, rle(mask, counts.decode('latin-1')), *mask.shape)
            assert (found == decoded_by_hand(counts, *mask.shape)).all(), counts

        return Attempt(run, NAMED)

    return make


either(
    'masks',
    'compressed counts with changed, removed and added bytes',
    'exactly the decoded mask, or file, annotation, reference',
)(damaged_code(damage))


either('masks', 'compressed counts truncated', 'exactly the decoded mask, or file, annotation, reference')(
    damaged_code(cut)
)


either('masks', 'counts of random bytes', 'exactly the decoded mask, or file, annotation, reference')(
    damaged_code(lambda rng, _: bytes(rng.choices(range(48, 112), k=rng.randint(1, 12))))
)
