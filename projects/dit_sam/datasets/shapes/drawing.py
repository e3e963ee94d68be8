"""Drawing of a scene, and the visible masks of its objects."""

import numpy as np
from PIL import Image, ImageDraw

from .scene_sampling import Background, Scene, SceneObject

_SUPERSAMPLING = 4


def _background(rng: np.random.Generator, spec: Background, height: int, width: int) -> np.ndarray:
    first, second = np.asarray(spec.colors, dtype=np.float32)
    if spec.gradient is None:
        canvas = np.broadcast_to(first, (height, width, 3)).copy()
    else:
        x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
        along = x * np.cos(spec.gradient) + y * np.sin(spec.gradient)
        share = (along - along.min()) / (along.max() - along.min())
        canvas = first + share[:, :, None].astype(np.float32) * (second - first)
    return _scatter(rng, canvas, spec) if spec.lines + spec.specks else canvas


def _scatter(rng: np.random.Generator, canvas: np.ndarray, spec: Background) -> np.ndarray:
    """Add thin lines and specks, a little lighter or darker than what is below them."""
    height, width = canvas.shape[:2]
    layer = Image.new('L', (width, height), 128)
    pen = ImageDraw.Draw(layer)
    limits = (width, height, width, height)
    for _ in range(spec.lines):
        pen.line(rng.integers(0, limits).tolist(), fill=128 + int(rng.choice((-1, 1)) * rng.integers(14, 36)))
    for _ in range(spec.specks):
        x, y = rng.integers(0, limits[:2]).tolist()
        side = int(rng.integers(0, 2))
        pen.rectangle((x, y, x + side, y + side), fill=128 + int(rng.choice((-1, 1)) * rng.integers(14, 40)))
    return canvas + (np.asarray(layer, dtype=np.float32) - 128)[:, :, None]


def _coverage(polygon: np.ndarray, x0: int, y0: int, width: int, height: int) -> np.ndarray:
    """Share of each pixel that a polygon covers, (height, width), in the window with the corner (x0, y0)."""
    scale = _SUPERSAMPLING
    canvas = Image.new('L', (width * scale, height * scale))
    # Integer coordinates are centers of pixels in Pillow, and corners in COCO.
    points = (polygon - (x0, y0)) * scale - 0.5
    ImageDraw.Draw(canvas).polygon(points.ravel().tolist(), fill=255)
    return np.asarray(canvas.reduce(scale), dtype=np.float32) / 255


def _pattern(texture: str, x: np.ndarray, y: np.ndarray, unit: float, angle: float) -> np.ndarray:
    """Share of the second tone at the points (x, y), with soft edges. `unit` is the picture's long side."""
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    if texture == 'striped':
        return np.clip(0.5 + 2.0 * (np.cos(u * (2 * np.pi / (0.06 * unit))) - 0.1), 0, 1)
    period, radius = 0.08 * unit, 0.024 * unit
    distance = np.hypot(u - period * np.round(u / period), v - period * np.round(v / period))
    return np.clip(radius - distance + 0.5, 0, 1)


def second_tone(rgb: tuple[int, int, int]) -> np.ndarray:
    """Second color of a texture: darker than the first, or lighter than black."""
    tone = np.asarray(rgb, dtype=np.float32)
    return tone * 0.5 if tone.max() > 60 else tone + 105


def _paint(canvas: np.ndarray, obj: SceneObject, unit: float, angle: float) -> None:
    height, width = canvas.shape[:2]
    x0, y0 = np.maximum(np.floor(obj.polygon.min(axis=0)).astype(int) - 1, 0).tolist()
    x1, y1 = np.minimum(np.ceil(obj.polygon.max(axis=0)).astype(int) + 1, (width, height)).tolist()
    alpha = _coverage(obj.polygon, x0, y0, x1 - x0, y1 - y0)[:, :, None]
    color: np.ndarray = np.asarray(obj.rgb, dtype=np.float32)
    if obj.texture != 'plain':
        cx, cy = obj.center
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5 - cx, np.arange(y0, y1) + 0.5 - cy)
        share = _pattern(obj.texture, x, y, unit, angle)[:, :, None].astype(np.float32)
        color = color + share * (second_tone(obj.rgb) - color)
    window = canvas[y0:y1, x0:x1]
    window += alpha * (color - window)


def draw(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """RGB picture of a scene, (H, W, 3) uint8. Objects are painted in the order of their z."""
    canvas = _background(rng, scene.background, scene.height, scene.width)
    for obj in sorted(scene.objects, key=lambda item: item.z):
        _paint(canvas, obj, scene.long_side, float(rng.choice((0, 1, 2, 3)) * np.pi / 4))
    if scene.background.noise:
        canvas = canvas + rng.normal(0, scene.background.noise, canvas.shape)
    return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)


def visible_masks(scene: Scene) -> list[np.ndarray]:
    """Visible part of every object, (H, W) bool, in the order of `scene.objects`."""
    seen: list[np.ndarray] = []
    for obj in scene.objects:
        mask = obj.mask.copy()
        for other in scene.objects:
            if other.z > obj.z:
                mask &= ~other.mask
        seen.append(mask)
    return seen
