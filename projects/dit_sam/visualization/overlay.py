"""Masks and the sentences that mean them, drawn over a picture. Pictures are RGB, uint8, (H, W, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .lettering import BACKGROUND, INK, face_for, wrap

Color = tuple[int, int, int]

# Far from each other in hue and in brightness; they come round again after ten.
PALETTE: tuple[Color, ...] = (
    (255, 64, 160),
    (0, 190, 255),
    (255, 150, 0),
    (120, 80, 255),
    (0, 170, 90),
    (235, 40, 40),
    (150, 110, 60),
    (200, 190, 0),
    (90, 110, 140),
    (190, 60, 220),
)


def draw_masks(
    image: np.ndarray,
    masks: Sequence[np.ndarray],
    sentences: Sequence[str],
    scores: Sequence[float] | None = None,
    colors: Sequence[Color] = PALETTE,
    opacity: float = 0.4,
    font: str | None = None,
    min_side: int = 480,
    empty: str = 'nothing found',
) -> np.ndarray:
    """Lay masks over a picture, each with a contour, and write the sentences below it, each with its colour.

    Args:
        image: The picture.
        masks: Boolean masks (H, W), one for each sentence; later ones lie over earlier ones.
        sentences: What the masks are the answers to.
        scores: A number for each mask, written behind its sentence.
        colors: RGB colour of each mask; taken from the start again when there are more masks.
        opacity: Of the masks' colour, from 0 to 1.
        font: A TrueType or OpenType file. By default the one that `font_for` finds for each sentence.
        min_side: A picture whose long side is shorter is enlarged by the smallest whole number that reaches it, so
            that the text is readable.
        empty: What is written behind the sentence of a mask without a pixel.

    Returns:
        The picture with its legend, (H', W', 3); the picture itself begins in the first row.

    Raises:
        ValueError: The numbers of masks, sentences and scores differ, or the image or a mask has another form.
        FileNotFoundError: There is no such font.
    """
    _check(image, masks, sentences, scores)
    factor = max(1, -(-min_side // max(image.shape[:2])))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else image.copy()
    colors = [tuple(colors[i % len(colors)]) for i in range(len(masks))]
    thickness = max(2, round(max(size) / 320))
    for mask, color in zip(masks, colors):
        mask = cv2.resize(np.asarray(mask).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        _draw_mask(picture, mask, color, opacity, thickness)
    # A narrow picture gets margins, for lines of a few words at least.
    width = max(size[0], min_side // 2)
    legend = _draw_legend(_entries(masks, sentences, scores, empty), colors, width, font)
    margin = width - size[0]
    picture = cv2.copyMakeBorder(
        picture, 0, 0, margin // 2, margin - margin // 2, cv2.BORDER_CONSTANT, value=BACKGROUND
    )
    return np.concatenate([picture, legend])


def _check(
    image: np.ndarray, masks: Sequence[np.ndarray], sentences: Sequence[str], scores: Sequence[float] | None
) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'draw_masks wants an RGB image (H, W, 3) of uint8, got {image.shape} of {image.dtype}')
    if len(masks) != len(sentences) or (scores is not None and len(scores) != len(masks)):
        raise ValueError(
            f'draw_masks wants a sentence and a score for each mask, got {len(masks)} masks, '
            f'{len(sentences)} sentences and {"no" if scores is None else len(scores)} scores'
        )
    for i, mask in enumerate(masks):
        if np.shape(mask) != image.shape[:2]:
            raise ValueError(f'mask {i} has shape {np.shape(mask)}, the image {image.shape[:2]} (height, width)')


def _draw_mask(picture: np.ndarray, mask: np.ndarray, color: Color, opacity: float, thickness: int) -> None:
    """Colour the inside of a uint8 mask, with a contour that lies inside and a white hairline around it; in place."""
    inside = mask.astype(bool)
    # A column for each channel: what becomes of each of its 256 values.
    blended = (np.arange(256)[:, None] * (1 - opacity) + np.array(color) * opacity).round().astype(np.uint8)
    for channel in range(3):
        values = picture[..., channel]
        values[inside] = blended[values[inside], channel]
    shrunk = cv2.erode(mask, _square(thickness)).astype(bool)
    grown = cv2.dilate(mask, _square(max(1, thickness // 2))).astype(bool)
    picture[inside & ~shrunk] = color
    picture[grown & ~inside] = BACKGROUND


def _square(reach: int) -> np.ndarray:
    return np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)


def _entries(
    masks: Sequence[np.ndarray], sentences: Sequence[str], scores: Sequence[float] | None, empty: str
) -> list[str]:
    """The lines of the legend, before they are wrapped."""
    # Line breaks and tabs of a sentence are no part of the layout.
    entries = [' '.join(sentence.split()) for sentence in sentences]
    if scores is not None:
        entries = [f'{entry} ({score:.2f})' for entry, score in zip(entries, scores)]
    return [entry if np.any(mask) else f'{entry}: {empty}' for entry, mask in zip(entries, masks)]


def _draw_legend(entries: Sequence[str], colors: Sequence[Color], width: int, font: str | None) -> np.ndarray:
    """A swatch and wrapped text for each entry, (H, width, 3)."""
    size = max(15, width // 32)
    gap = size // 2
    text_left = 2 * gap + size
    faces = [face_for(entry, size, font) for entry in entries]
    rows = [wrap(entry, face, width - text_left - gap) for entry, face in zip(entries, faces)]
    line = round(size * 1.35)
    height = sum(len(row) * line for row in rows) + gap * (len(rows) + 1)
    legend = Image.new('RGB', (width, height), BACKGROUND)
    draw, top = ImageDraw.Draw(legend), gap
    for row, face, color in zip(rows, faces, colors):
        draw.rectangle((gap, top + 2, gap + size - 1, top + 1 + size), fill=tuple(color))
        for text in row:
            draw.text((text_left, top), text, font=face, fill=INK)
            top += line
        top += gap
    return np.asarray(legend)
