"""Polygons and run-length codes, drawn by RefCOCODataset and, independently of it, by matplotlib and numpy."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import Attempt, accepted, junk, refused
from matplotlib.path import Path as Outline
from subjects import INSTANCES, mask_of

NAMED = (INSTANCES, 'annotation 7', 'reference 1')
SAYS = 'file, annotation, reference'


def size_of(rng: Random) -> tuple[int, int]:
    return rng.randint(1, 60), rng.randint(1, 60)


def polygon(rng: Random, height: int, width: int, points: int, beyond: float = 0.0) -> list[float]:
    """Points at random, which may cross each other and leave the image by a share of its size."""
    low, high = -beyond, 1 + beyond
    return [round(rng.uniform(low, high) * side, rng.randint(0, 3)) for _ in range(points) for side in (width, height)]


def drawn(polygons: list[list[float]], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The union of polygons by the even-odd rule, and the pixels whose middle is more than a pixel off all edges."""
    rows, columns = np.mgrid[:height, :width]
    middles = np.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    inside, clear = np.zeros(len(middles), bool), np.ones(len(middles), bool)
    for numbers in polygons:
        points = np.array(numbers).reshape(-1, 2)
        inside |= Outline(np.concatenate([points, points[:1]])).contains_points(middles)
        for start, end in zip(points, np.roll(points, -1, 0)):
            clear &= distance(middles, start, end) > 1
    return inside.reshape(height, width), clear.reshape(height, width)


def distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From points (n, 2) to a stretch of line."""
    along = end - start
    share = ((points - start) @ along / max(along @ along, 1e-12)).clip(0, 1)
    return np.linalg.norm(points - start - share[:, None] * along, axis=1)


def expect(folder: Path, segmentation: Any, expected: np.ndarray, where: np.ndarray | bool = True) -> Attempt:

    def run() -> None:
        mask = mask_of(folder, segmentation, *expected.shape)
        assert ((mask == expected) | ~np.asarray(where)).all(), segmentation

    return Attempt(run)


def refuse(folder: Path, segmentation: Any, size: tuple[int, int]) -> Attempt:
    return Attempt(lambda: mask_of(folder, segmentation, *size), NAMED)


@accepted('masks', 'rectangles of whole pixels', 'exactly these pixels')
def rectangle(rng: Random, folder: Path) -> Attempt:
    height, width = size_of(rng)
    left, right = sorted((rng.randint(0, width), rng.randint(0, width)))
    top, bottom = sorted((rng.randint(0, height), rng.randint(0, height)))
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    return expect(folder, [[left, top, right, top, right, bottom, left, bottom]], mask)


@accepted('masks', 'self-intersecting polygons of 3 to 30 points', 'as matplotlib, within one pixel at the edges')
def one_polygon(rng: Random, folder: Path) -> Attempt:
    size = size_of(rng)
    points = [polygon(rng, *size, rng.randint(3, 30))]
    return expect(folder, points, *drawn(points, *size))


@accepted('masks', 'several polygons, up to an image size outside the image', "as matplotlib's union, within one pixel")
def some_polygons(rng: Random, folder: Path) -> Attempt:
    size = size_of(rng)
    points = [
        polygon(rng, *size, rng.randint(3, 8), beyond=rng.choice([0, 0.1, 0.99])) for _ in range(rng.randint(2, 6))
    ]
    return expect(folder, points, *drawn(points, *size))


@accepted('masks', 'polygons that are a point or a line', 'nothing, or pixels along the line')
def line(rng: Random, folder: Path) -> Attempt:
    size = size_of(rng)
    points = [polygon(rng, *size, rng.randint(1, 2)) * 3]
    return expect(folder, points, *drawn(points, *size))


@accepted('masks', 'circles as polygons of 10,000 points', 'the circle, within one pixel at its edge', share=0.02)
def long_polygon(rng: Random, folder: Path) -> Attempt:
    angles = np.sort([rng.uniform(0, 2 * np.pi) for _ in range(10000)])
    circle = np.stack([30 + 20 * np.cos(angles), 25 + 20 * np.sin(angles)], -1).ravel().tolist()
    rows, columns = np.mgrid[:50, :60]
    radius = np.hypot(columns + 0.5 - 30, rows + 0.5 - 25)
    return expect(folder, [circle], radius < 20, abs(radius - 20) > 1.5)


@refused('masks', 'polygons with no, too few or an odd number of coordinates', SAYS)
def short_polygon(rng: Random, folder: Path) -> Attempt:
    size = size_of(rng)
    wrong = rng.choice(
        [
            [],
            [[]],
            [polygon(rng, *size, 3)[: rng.choice([1, 2, 3, 4, 5])]],
            [polygon(rng, *size, 5)[:-1]],
            [polygon(rng, *size, 4), []],
        ]
    )
    return refuse(folder, wrong, size)


@refused('masks', 'coordinates that are not finite, or thousands of image sizes away', SAYS)
def odd_coordinate(rng: Random, folder: Path) -> Attempt:
    size = size_of(rng)
    numbers = polygon(rng, *size, 5)
    numbers[rng.randrange(10)] = rng.choice(
        [
            None,
            'x',
            '1',
            True,
            [],
            {},
            float('nan'),
            float('inf'),
            -float('inf'),
            1e9,
            -1e9,
            1e300,
            2**63,
            -(2**70),
            10**400,
        ]
    )
    return refuse(folder, [numbers], size)


@refused('masks', 'segmentations that are neither polygons nor run-length codes', SAYS)
def no_segmentation(rng: Random, folder: Path) -> Attempt:
    return refuse(folder, junk(rng), size_of(rng))
