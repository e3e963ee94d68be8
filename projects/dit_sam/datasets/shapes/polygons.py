"""Polygons: the outlines of the shapes, masks from polygons, and polygons from masks."""

import functools
import math

import numpy as np
from pycocotools import mask as mask_utils


def _polar(radii: list[float], start: float) -> np.ndarray:
    """Points at equal angles on the given radii, the first at `start` radians (y points down)."""
    angles = start + np.arange(len(radii)) * (2 * math.pi / len(radii))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(radii)[:, None]


def _cross(arm: float = 0.17) -> np.ndarray:
    a, b = arm, 0.5
    return np.array([(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a),
                     (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)])  # fmt: skip


_TOP = -math.pi / 2
# Few and dissimilar, so that a model of a few million weights learns them at 20 pixels in an hour.
_OUTLINES = dict(
    circle=lambda: _polar([0.5] * 32, 0.0),
    square=lambda: np.array([(-0.45, -0.45), (0.45, -0.45), (0.45, 0.45), (-0.45, 0.45)]),
    triangle=lambda: np.array([(0.0, -0.46), (0.52, 0.46), (-0.52, 0.46)]),
    star=lambda: _polar([0.56, 0.235] * 5, _TOP),
    cross=_cross,
)
SHAPES = tuple(_OUTLINES)


@functools.cache
def unit_outline(shape: str) -> np.ndarray:
    """Points of a shape with an extent of about 1, (N, 2); y points down."""
    return np.asarray(_OUTLINES[shape](), dtype=np.float64)


def outline(shape: str, extent: float, degrees: float) -> np.ndarray:
    """Points of a rotated shape in pixels, (N, 2). The center of its box is the origin."""
    angle = math.radians(degrees)
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    points = unit_outline(shape) @ rotation * extent
    return points - (points.min(axis=0) + points.max(axis=0)) / 2


def rasterize(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mask of a polygon by pycocotools, (height, width) bool."""
    rle = mask_utils.frPyObjects([points.ravel().tolist()], height, width)
    return mask_utils.decode(rle)[:, :, 0].astype(bool)


def as_rectangles(mask: np.ndarray) -> list[list[int]]:
    """Rectangles that COCO's rules draw as exactly this mask, (height, width) bool. Equal neighbor columns are merged.

    They share no pixel, so that their sum, which REFER's reader takes, is their union.
    """
    rectangles: list[list[int]] = []
    begun: dict[tuple[int, int], int] = {}
    columns = [*mask.T, np.zeros(len(mask), dtype=bool)]
    for right, column in enumerate(columns):
        runs = _runs(column)
        for top, bottom in sorted(begun.keys() - runs):
            left = begun.pop((top, bottom))
            rectangles.append([left, top, right, top, right, bottom, left, bottom])
        begun.update(dict.fromkeys(runs - begun.keys(), right))
    return rectangles


def _runs(column: np.ndarray) -> set[tuple[int, int]]:
    """First row of each run that is set, and the row after its last."""
    edges = np.flatnonzero(np.diff(column.astype(np.int8), prepend=0, append=0)).tolist()
    return set(zip(edges[::2], edges[1::2]))
