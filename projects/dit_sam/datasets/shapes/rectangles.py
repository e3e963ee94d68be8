"""A mask as polygons."""

import numpy as np


def as_rectangles(mask: np.ndarray) -> list[list[int]]:
    """Polygons that COCO's rules draw as exactly this mask: rectangles of neighbouring columns that are set alike.

    They share no pixel, so that their sum, which REFER's reader takes, is their union.

    Args:
        mask: (height, width), boolean.
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
    """First row and the one behind the last of each run that is set."""
    edges = np.flatnonzero(np.diff(column.astype(np.int8), prepend=0, append=0)).tolist()
    return set(zip(edges[::2], edges[1::2]))
