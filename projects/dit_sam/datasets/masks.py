"""Masks in COCO's formats and as compressed run lengths (RLE), the form in the tables."""

import itertools
import reprlib
from math import isfinite

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..utils import encode_rle

Segmentation = list | dict


def encode_segmentation(segmentation: Segmentation, height: int, width: int) -> bytes:
    """A COCO segmentation as the counts of one compressed RLE.

    The input is checked first, because pycocotools does not: a broken RLE makes it read memory out of bounds, and a NaN
    in a polygon ends the process.

    Args:
        segmentation: Polygons, an RLE, compressed or not, or a list of RLEs, as in RefCLEF. Their union counts.
        height: Height of the annotated image in pixels.
        width: Width of the annotated image in pixels.

    Raises:
        ValueError: The segmentation is wrong. The message is a predicate, such as 'has no polygon and no RLE'.
    """
    parts: list = segmentation if isinstance(segmentation, list) else [segmentation]
    if not parts:
        raise ValueError('has no polygon and no RLE')
    if all(isinstance(part, dict) for part in parts):
        return unite([_encode_rle(part, height, width) for part in parts], height, width)
    for polygon in parts:
        _check_polygon(polygon, height, width)
    return coco_mask.merge(coco_mask.frPyObjects(parts, height, width))['counts']


def draw_once(objects: list[Segmentation], height: int, width: int) -> np.ndarray:
    """The pixels that exactly one polygon of an object covers, boolean (height, width).

    LAVT adds the polygons of an object and keeps the pixels equal to 1, so that overlaps are outside. Errors as in
    `encode_segmentation`.
    """
    drawn = np.zeros((height, width), bool)
    for segmentation in objects:
        parts = segmentation if isinstance(segmentation, list) else [segmentation]
        drawn |= sum(decode_segmentation([part], height, width) for part in parts) == 1
    return drawn


def draw_scaled(objects: list[Segmentation], height: int, width: int, side: int) -> np.ndarray:
    """The union of objects as ReLA draws it, boolean (side, side): polygons are scaled before, RLEs after drawing.

    Errors as in `encode_segmentation`.
    """
    drawn = np.zeros((side, side), bool)
    for segmentation in objects:
        for part in segmentation if isinstance(segmentation, list) else [segmentation]:
            if isinstance(part, dict):
                stored = Image.fromarray(decode_segmentation([part], height, width))
                drawn |= np.asarray(stored.resize((side, side), Image.Resampling.NEAREST)) == 1
            else:
                _check_polygon(part, height, width)
                scales = itertools.cycle((side / width, side / height))
                scaled = [value * scale for value, scale in zip(part, scales)]
                drawn |= decode_segmentation([scaled], side, side) == 1
    return drawn


def decode_segmentation(segmentation: Segmentation, height: int, width: int) -> np.ndarray:
    """The mask of a COCO segmentation, uint8 (height, width), 1 inside; the rest as in `encode_segmentation`."""
    return coco_mask.decode(dict(size=[height, width], counts=encode_segmentation(segmentation, height, width)))


def encode_box(box: list[float], height: int, width: int) -> bytes:
    """A COCO box, x, y, width and height in pixels, as the counts of a compressed RLE; errors as for segmentations."""
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        raise ValueError(f'has the box {reprlib.repr(box)}: x, y, width and height, four numbers, are needed')
    _check_nearness(box, height, width, 'box')
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        raise ValueError(f'has a box without width or height: {reprlib.repr(box)}, which is x, y, width and height')
    right, bottom = x + box_width, y + box_height
    return encode_segmentation([[x, y, right, y, right, bottom, x, bottom]], height, width)


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask of (height, width), set where it is not zero, as the counts of a compressed RLE."""
    return encode_rle(mask != 0)['counts'].encode()


def unite(masks: list[bytes], height: int, width: int) -> bytes:
    """The union of compressed RLEs of one size; an empty mask if there are none."""
    if not masks:
        return coco_mask.frPyObjects(dict(size=[height, width], counts=[height * width]), height, width)['counts']
    if len(masks) == 1:
        return masks[0]
    return coco_mask.merge([dict(size=[height, width], counts=counts) for counts in masks])['counts']


def area(counts: bytes, height: int, width: int) -> int:
    """Number of pixels inside a compressed RLE."""
    return int(coco_mask.area(dict(size=[height, width], counts=counts)))


def check_rle(counts: bytes, height: int, width: int) -> None:
    """Raise ValueError unless the runs of a compressed RLE fill an image of height x width pixels."""
    _checked_runs(counts, height, width)


def _checked_runs(counts: bytes, height: int, width: int) -> np.ndarray:
    """The runs of a compressed RLE; errors as in `check_rle`."""
    runs = run_lengths(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f'has an RLE whose runs do not fill {height} x {width} pixels (height x width)')
    return runs


def run_lengths(counts: bytes) -> np.ndarray:
    """The runs of a compressed RLE, int64: pixels outside, inside, outside, ..., column by column.

    The code is that of `rleToString` in cocoapi's maskApi.c: a number is a sequence of 5-bit groups, lowest first, each
    in a character from 48 on. Bit 5 is set if another group follows; bit 4 of the last group is the sign. From the
    fourth run on, a number is the difference to the run two before.

    Raises:
        ValueError: The bytes are not such a code.
    """
    codes = np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not len(last) or last[-1] != len(codes) - 1:
        raise ValueError("has an RLE that is damaged or not in COCO's compressed form")
    lengths = np.diff(last, prepend=-1)
    if lengths.max() > 7:  # 7 x 5 bits hold any run of an image below 2^32 pixels
        raise ValueError('has an RLE with a run that no image can have')
    starts = last - lengths + 1
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shifts, starts)
    runs -= (codes[last] & 16 != 0) * (1 << 5 * lengths)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def _encode_rle(rle: dict, height: int, width: int) -> bytes:
    if not {'size', 'counts'} <= set(rle):
        raise ValueError('has an RLE without the keys "size" and "counts"')
    size, counts = rle['size'], rle['counts']
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise ValueError(f'has an RLE of size {reprlib.repr(size)}, but its image is {[height, width]} (height, width)')
    if isinstance(counts, list):
        if not all(type(run) is int and run >= 0 for run in counts) or sum(counts) != height * width:
            raise ValueError(f'has an RLE whose runs do not fill {height} x {width} pixels (height x width)')
        return _encode_runs(np.array(counts, np.int64), height, width)
    if not isinstance(counts, (str, bytes)):
        raise ValueError(f'has an RLE whose "counts" are {type(counts).__name__}: a list or text is needed')
    counts = counts.encode() if isinstance(counts, str) else counts
    runs = _checked_runs(counts, height, width)
    return counts if runs[1:].all() else _encode_runs(runs, height, width)


def _encode_runs(runs: np.ndarray, height: int, width: int) -> bytes:
    """The compressed RLE of runs that fill an image.

    Only the first run may be empty in it: with other empty runs, pycocotools' union writes beyond its memory.
    """
    inside = np.arange(len(runs))[runs > 0] % 2
    runs = runs[runs > 0]
    starts = np.flatnonzero(np.diff(inside, prepend=1 - inside[0]))
    merged = [0] * int(inside[0]) + np.add.reduceat(runs, starts).tolist()
    return coco_mask.frPyObjects(dict(size=[height, width], counts=merged), height, width)['counts']


def _check_polygon(polygon: list | dict, height: int, width: int) -> None:
    """Raise ValueError unless it is a flat list x0, y0, x1, y1, ... of at least 3 points."""
    if isinstance(polygon, dict):
        raise ValueError('mixes polygons and RLEs in one list: give one kind')
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        size = f'{len(polygon)} numbers' if isinstance(polygon, list) else type(polygon).__name__
        raise ValueError(f'has a polygon of {size}: at least 3 points, x and y of each, are needed')
    if not _are_numbers(polygon):
        raise ValueError('has a polygon of which not all coordinates are numbers')
    _check_nearness(polygon, height, width)
    _check_outline(polygon, height, width)


def check_points(points: list, height: int, width: int) -> None:
    """Raise ValueError unless a polygon is a list of points [x, y], at least one, in or near its image."""
    if not isinstance(points, list) or not points:
        raise ValueError(f'has the polygon {reprlib.repr(points)}: a list of points [x, y] is needed')
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not _are_numbers(point):
            raise ValueError(f'has a polygon with the point {reprlib.repr(point)}: x and y, two numbers, are needed')
    _check_nearness([value for point in points for value in point], height, width)


def _check_nearness(numbers: list, height: int, width: int, kind: str = 'polygon') -> None:
    # Annotations leave the image by a pixel or two. Far outside, pycocotools would need unlimited memory.
    if min(numbers) < -max(height, width) or max(numbers) > 2 * max(height, width):
        raise ValueError(f'has a {kind} far outside of its image of {height} x {width} pixels (height x width)')


def _check_outline(polygon: list, height: int, width: int) -> None:
    # pycocotools follows it in steps of a fifth of a pixel, and needs 8 bytes for each.
    xy = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    if np.abs(np.diff(xy, axis=0, append=xy[:1])).sum() > 1000 * (height + width):
        raise ValueError('has a polygon whose outline is more than 1,000 times as long as the sides of its image')


def _are_numbers(values: list) -> bool:
    return all(type(value) is int or type(value) is float and isfinite(value) for value in values)
