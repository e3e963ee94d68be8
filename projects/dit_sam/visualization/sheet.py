"""Sheet of captioned pictures in rows. Pictures are RGB, uint8, (H, W, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .text_layout import BACKGROUND, INK, face_for, wrap

GAP = 10


def draw_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]], cell_width: int = 160, font: str | None = None
) -> np.ndarray:
    """Rows of pictures, each row below its heading and each picture below its caption, as one picture.

    Args:
        rows: Heading and cells of each row; a cell is a caption and a picture of any size.
        cell_width: Width to which pictures are scaled, in pixels.
        font: As in `draw_masks`.
    """
    width = max(len(cells) for _, cells in rows) * (cell_width + GAP) + GAP
    parts = [
        part
        for heading, cells in rows
        for part in (_text(heading, width, 17, font), _row(cells, cell_width, width, font), _blank(2 * GAP, width))
    ]
    return np.concatenate(parts)


def _row(cells: Sequence[tuple[str, np.ndarray]], cell_width: int, width: int, font: str | None) -> np.ndarray:
    """Pictures side by side, their captions aligned at the bottom, (H, width, 3)."""
    captions = [_text(caption, cell_width + GAP, 14, font) for caption, _ in cells]
    height = max(map(len, captions))
    columns = []
    for caption, (_, picture) in zip(captions, cells):
        above = _blank(height - len(caption), cell_width + GAP)
        columns.append(np.concatenate([above, caption, _fit(picture, cell_width)]))
    row = _blank(max(map(len, columns)), width)
    for i, column in enumerate(columns):
        row[: len(column), i * (cell_width + GAP) :][:, : cell_width + GAP] = column
    return row


def _fit(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture scaled to `width` pixels, with a gap to its left."""
    size = (width, max(1, round(len(picture) * width / picture.shape[1])))
    shrinks = width < picture.shape[1]
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.concatenate([_blank(size[1], GAP), resized], 1)


def _text(text: str, width: int, size: int, font: str | None) -> np.ndarray:
    """A text in lines, (H, width, 3)."""
    face, line = face_for(text, size, font), round(size * 1.35)
    lines = wrap(text, face, width - GAP)
    image = Image.fromarray(_blank(len(lines) * line + GAP // 2, width))
    for i, words in enumerate(lines):
        ImageDraw.Draw(image).text((GAP, GAP // 2 + i * line), words, font=face, fill=INK)
    return np.asarray(image)


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, np.uint8)
