"""Masks and their sentences drawn over a picture. Pictures are RGB, uint8, (H, W, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .text_layout import BACKGROUND, INK, face_for, wrap

Color = tuple[int, int, int]

# Masks of a larger IoU have nearly the same outline.
ALIKE = 0.6
# More outlines around each other would leave the object.
MOST_RINGS = 4
# A distance in pixels that no outline reaches.
FAR = np.float32(10000)

# Far from each other in hue and in brightness.
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
    opacity: float = 0.15,
    font: str | None = None,
    min_side: int = 480,
    empty: str = 'nothing found',
    points: Sequence[np.ndarray | None] = (),
    boxes: Sequence[np.ndarray | None] = (),
) -> np.ndarray:
    """Picture with outlined, lightly tinted masks, and below it the sentences, each with its color.

    The outline is outside the mask. Masks that are nearly the same get outlines around each other.

    Args:
        image: The picture.
        masks: Boolean masks (H, W), drawn in this order.
        sentences: One sentence for each mask.
        scores: A number for each mask, written after its sentence.
        colors: RGB color of each mask. They repeat when there are more masks.
        opacity: Opacity of the tint, from 0 to 1. A low one leaves the object's own color recognizable.
        font: A TrueType or OpenType file. Without one, `font_for` chooses for each sentence.
        min_side: Pictures with a shorter long side are enlarged by a whole factor, so that the text is readable.
        empty: Text after the sentence of an empty mask.
        points: For each mask the points that were given with its sentence, (n, 3): x, y and label. Points inside the
            object (label 1) are discs, points outside it are rings.
        boxes: For each mask the box that was given with its sentence, (4,): left, top, right, bottom.

    Returns:
        The picture with its legend below, (H', W', 3).

    Raises:
        ValueError: The numbers of masks, sentences and scores differ, or a shape or type is wrong.
        FileNotFoundError: The font does not exist.
    """
    _check(image, masks, sentences, scores)
    factor = max(1, -(-min_side // max(image.shape[:2])))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    picture = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else image.copy()
    masks = [np.asarray(mask, dtype=bool) for mask in masks]
    colors = [colors[i % len(colors)] for i in range(len(masks))]
    _draw_masks(picture, masks, colors, factor, opacity)
    _draw_prompts(picture, points, boxes, colors, factor)
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
        raise ValueError(f'draw_masks needs an RGB image (H, W, 3) of uint8, got {image.shape} of {image.dtype}')
    if len(masks) != len(sentences) or (scores is not None and len(scores) != len(masks)):
        raise ValueError(
            f'draw_masks needs a sentence and a score for each mask, got {len(masks)} masks, '
            f'{len(sentences)} sentences and {"no" if scores is None else len(scores)} scores'
        )
    for i, mask in enumerate(masks):
        if np.shape(mask) != image.shape[:2]:
            raise ValueError(f'mask {i} has shape {np.shape(mask)}, the image {image.shape[:2]} (height, width)')


def _draw_masks(
    picture: np.ndarray, masks: Sequence[np.ndarray], colors: Sequence[Color], factor: int, opacity: float
) -> None:
    """Draw masks over a picture that is larger by a factor; in place."""
    line = max(2, round(max(picture.shape) / 320))
    rings = _rings(masks)
    # Masks that share a pixel share its tint, so that many of them do not hide it.
    strength = opacity / np.maximum(1, np.sum(masks, axis=0, dtype=np.float32))
    # All tints before all outlines, so that no outline is tinted.
    for mask, color in zip(masks, colors):
        crop = _crop(mask, 1)
        _blend(_view(picture, crop, factor), color, _enlarge(strength[crop] * mask[crop], factor, cv2.INTER_LINEAR))
    for mask, color, ring in zip(masks, colors, rings):
        crop = _crop(mask, (2 * line * (ring + 1)) // factor + 8)
        depth = _depth(mask[crop], factor)
        outline = depth + ring * (line + line // 2)
        # A mask that reaches the border of the picture has its outline inside it there.
        border = _border_distance(picture.shape, crop, factor) - line - 2 * (line // 2)
        _draw_outline(
            _view(picture, crop, factor), np.where(depth > 0, np.minimum(outline, border), outline), color, line
        )


def _draw_prompts(
    picture: np.ndarray,
    points: Sequence[np.ndarray | None],
    boxes: Sequence[np.ndarray | None],
    colors: Sequence[Color],
    factor: int,
) -> None:
    """Draw points and boxes over a picture that is larger by a factor; in place."""
    line = max(2, round(max(picture.shape) / 320))
    # OpenCV takes positions in 16ths of a pixel.
    exact = dict(lineType=cv2.LINE_AA, shift=4)
    for box, color in zip(boxes, colors):
        if box is not None:
            # Edges of pixels, and OpenCV counts from the center of the first one.
            left, top, right, bottom = np.rint((np.asarray(box) * factor - 0.5) * 16).astype(int).tolist()
            cv2.rectangle(picture, (left, top), (right, bottom), color, max(1, line // 2), **exact)
    for of_mask, color in zip(points, colors):
        for x, y, label in () if of_mask is None else np.asarray(of_mask, dtype=np.float64):
            center = (round(((x + 0.5) * factor - 0.5) * 16), round(((y + 0.5) * factor - 0.5) * 16))
            cv2.circle(picture, center, (3 * line) * 16, BACKGROUND, -1, **exact)
            cv2.circle(picture, center, 2 * line * 16, color, -1 if label else line, **exact)


def _rings(masks: Sequence[np.ndarray]) -> list[int]:
    """How far the outline of each mask moves outward, in lines, because the outlines of later masks would cover it."""
    step = max(1, max(masks[0].shape) // 512) if masks else 1
    masks = [mask[::step, ::step] for mask in masks]
    return [min(MOST_RINGS, sum(_iou(mask, later) > ALIKE for later in masks[i + 1 :])) for i, mask in enumerate(masks)]


def _view(picture: np.ndarray, crop: tuple[slice, slice], factor: int) -> np.ndarray:
    rows, columns = crop
    return picture[rows.start * factor : rows.stop * factor, columns.start * factor : columns.stop * factor]


def _border_distance(shape: tuple[int, ...], crop: tuple[slice, slice], factor: int) -> np.ndarray:
    """The distance of each pixel of a crop from the border of the picture."""
    lines = []
    for length, part in zip(shape, crop):
        position = np.arange(part.start * factor, min(part.stop * factor, length), dtype=np.float32) + 0.5
        lines.append(np.minimum(position, length - position))
    return np.minimum.outer(*lines)


def _crop(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a mask's bounding box with a margin; one pixel for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    (top, bottom), (left, right) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    return slice(max(0, top - margin), bottom + margin + 1), slice(max(0, left - margin), right + margin + 1)


def _depth(mask: np.ndarray, factor: int) -> np.ndarray:
    """How deep each pixel of a mask, enlarged by a factor, lies inside: signed pixels, 0 on the outline.

    Distances are smoothed, which rounds the steps of the mask. Their signs stay, so that no pixel of it is lost.
    """
    inside, outside = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) for side in (mask, ~mask)
    )
    # Infinite where a mask is full or empty.
    inside, outside = np.minimum(inside, FAR), np.minimum(outside, FAR)
    # The outline runs midway between the centers of an inside pixel and an outside neighbor: half a pixel from both.
    depth = cv2.GaussianBlur(np.where(mask, inside - 0.5, 0.5 - outside), (0, 0), 1.5)
    depth = np.where(mask, np.maximum(depth, 0.02), np.minimum(depth, -0.02))
    return _enlarge(depth, factor, cv2.INTER_CUBIC) * factor


def _enlarge(values: np.ndarray, factor: int, interpolation: int) -> np.ndarray:
    return cv2.resize(values, None, fx=factor, fy=factor, interpolation=interpolation)


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    crop = _crop(mask, 0)
    shared = int((mask[crop] & other[crop]).sum())
    return shared / (int(mask[crop].sum()) + int(other.sum()) - shared) if shared else 0.0


def _draw_outline(picture: np.ndarray, depth: np.ndarray, color: Color, line: int) -> None:
    """Draw an anti-aliased line around the pixels of positive depth, with a white halo half as wide on both sides."""
    halo = line // 2
    for paint, start, end in ((BACKGROUND, 0, line + 2 * halo), (color, halo, halo + line)):
        _blend(picture, paint, np.clip(0.5 - start - depth, 0, 1) - np.clip(0.5 - end - depth, 0, 1))


def _blend(picture: np.ndarray, color: Color, share: np.ndarray) -> None:
    """Mix a color into a picture, as much as the share (H, W) of each pixel; in place."""
    for channel, value in enumerate(color):
        plane = picture[..., channel]
        plane[...] = np.rint(plane + share * (value - plane.astype(np.float32)))


def _entries(
    masks: Sequence[np.ndarray], sentences: Sequence[str], scores: Sequence[float] | None, empty: str
) -> list[str]:
    """Lines of the legend, before they are wrapped."""
    # Without the line breaks and tabs of a sentence.
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
