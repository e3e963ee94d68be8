"""Random symbolic scenes: the objects of a picture, their look and their places."""

from dataclasses import dataclass

import numpy as np

from .polygons import SHAPES, outline, rasterize

COLORS: dict[str, tuple[int, int, int]] = dict(
    red=(214, 32, 38),
    green=(38, 156, 58),
    blue=(36, 76, 222),
    yellow=(246, 222, 38),
    purple=(122, 42, 172),
    orange=(246, 134, 22),
    white=(248, 248, 248),
    black=(14, 14, 16),
)
TEXTURES = ('plain', 'striped', 'dotted')
# Extent as a share of the picture's long side. With a jitter of 4 %, neighboring classes stay apart by a factor of
# 0.30 * 0.96 / (0.20 * 1.04) = 1.38 and 0.45 * 0.96 / (0.30 * 1.04) = 1.38 at least.
SIZES: dict[str, float] = dict(small=0.20, medium=0.30, large=0.45)
SIZE_JITTER = 0.04
MAX_COVERED = 0.22
_MAX_ROTATION = 9.0
_MIN_CONTRAST = 75.0
# A pattern needs room to be seen, as a share of the picture's long side.
_ROOM_FOR_PATTERN = 0.25
_ASPECTS = ((1.0, 1.0), (1.0, 0.75), (0.75, 1.0))


@dataclass(frozen=True)
class SceneRules:
    """How many objects a scene has, how large they are, and how much they have in common.

    Args:
        counts: Numbers of objects to place. If there is not enough room, fewer remain, but at least `least`.
        scale: Factor of `SIZES`.
        most_values: The colors of a scene, and its shapes, are two to this many.
        alike: Probability that an object is another one with one attribute drawn again.
    """

    counts: tuple[int, ...] = (3, 4, 4, 5, 5, 6, 6)
    least: int = 3
    scale: float = 1.0
    most_values: int = 4
    alike: float = 0.5


ORDINARY = SceneRules()
# Small objects are 0.20 * 0.6 * 0.96 = 0.115 of the long side at least: 18 pixels of 160, 13 of the network's 112.
HARD = SceneRules(counts=(6, 7, 8, 9, 10), least=6, scale=0.6, most_values=3, alike=0.75)


@dataclass
class SceneObject:
    """One drawn object.

    `polygon` is (N, 2) in pixels. `mask` is its rasterization, (H, W) bool, without occlusion. `center` is that of the
    box. A larger `z` is nearer to the viewer.
    """

    shape: str
    color: str
    size: str
    texture: str
    rgb: tuple[int, int, int]
    extent: float
    rotation: float
    polygon: np.ndarray
    mask: np.ndarray
    z: int = 0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the polygon."""
        return (*self.polygon.min(axis=0).tolist(), *self.polygon.max(axis=0).tolist())

    @property
    def center(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass
class Background:
    """Two colors, equal unless `gradient` is a direction in radians, with lines, specks and noise over them."""

    colors: tuple[tuple[int, int, int], tuple[int, int, int]]
    gradient: float | None
    lines: int
    specks: int
    noise: float


@dataclass
class Scene:
    """A picture's size, background and objects."""

    height: int
    width: int
    background: Background
    objects: list[SceneObject]

    @property
    def long_side(self) -> int:
        return max(self.height, self.width)


def _rgb(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = values.clip(0, 255).tolist()
    return red, green, blue


def _tinted(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    return _rgb(rng.integers(low, high + 1) + rng.integers(-8, 9, 3))


def sample_background(rng: np.random.Generator) -> Background:
    low, high = ((196, 244), (12, 62), (104, 156))[rng.choice(3, p=(0.45, 0.35, 0.2))]
    first = _tinted(rng, low, high)
    gradient = float(rng.uniform(0, 2 * np.pi)) if rng.random() < 0.4 else None
    second = first if gradient is None else _tinted(rng, low, high)
    cluttered = rng.random() < 0.45
    return Background(
        colors=(first, second),
        gradient=gradient,
        lines=int(rng.integers(0, 7)) if cluttered else 0,
        specks=int(rng.integers(0, 31)) if cluttered else 0,
        noise=float(rng.uniform(2, 6)) if rng.random() < 0.25 else 0.0,
    )


def _jittered(rng: np.random.Generator, color: str) -> tuple[int, int, int]:
    # White and black change only in brightness, or they would get a hue.
    jitter = rng.integers(-9, 10, 1 if color in ('white', 'black') else 3)
    return _rgb(np.asarray(COLORS[color]) + jitter)


def _usable_colors(background: Background) -> list[str]:
    """Colors that stand out from both ends of the background by their Euclidean distance in RGB."""
    ends = np.asarray(background.colors, dtype=np.float64)
    return [name for name, rgb in COLORS.items() if np.linalg.norm(ends - rgb, axis=1).min() >= _MIN_CONTRAST]


class _AttributeSampler:
    """Draws attributes from a few colors, shapes and textures, so that objects of one picture share some."""

    def __init__(self, rng: np.random.Generator, colors: list[str], rules: SceneRules) -> None:
        self.rng, self.rules = rng, rules
        end = rules.most_values + 1
        self.values = dict(
            color=rng.choice(colors, size=min(len(colors), int(rng.integers(2, end))), replace=False).tolist(),
            shape=rng.choice(SHAPES, size=int(rng.integers(2, end)), replace=False).tolist(),
            size=list(SIZES),
            texture=['plain'] * 4 + rng.choice(TEXTURES[1:], size=2, replace=False).tolist(),
        )

    def fresh(self) -> dict[str, str]:
        return {key: str(self.rng.choice(values)) for key, values in self.values.items()}

    def distractor(self, of: dict[str, str]) -> dict[str, str]:
        """The attributes of another object, one of them drawn again."""
        key = str(self.rng.choice(('color', 'shape', 'size', 'texture')))
        return {**of, key: self.fresh()[key]}

    def draw(self, count: int) -> list[dict[str, str]]:
        drawn: list[dict[str, str]] = []
        for _ in range(count):
            copy = drawn and self.rng.random() < self.rules.alike
            new = self.distractor(drawn[int(self.rng.integers(len(drawn)))]) if copy else self.fresh()
            patterned = SIZES[new['size']] * self.rules.scale >= _ROOM_FOR_PATTERN
            drawn.append(new if patterned else {**new, 'texture': 'plain'})
        return drawn


def _separate(box: tuple[float, ...], other: tuple[float, ...], gap: float) -> bool:
    return box[2] + gap <= other[0] or other[2] + gap <= box[0] or box[3] + gap <= other[1] or other[3] + gap <= box[1]


class _Placer:
    """Places objects one after the other, each where there is room."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, scale: float) -> None:
        self.rng = rng
        self.height, self.width = height, width
        self.unit = scale * max(height, width)
        self.gap = 0.025 * max(height, width)
        self.max_covered = MAX_COVERED if rng.random() < 0.65 else 0.0
        self.placed: list[SceneObject] = []
        self.covered: list[int] = []

    def place(self, attributes: dict[str, str], tries: int = 40) -> bool:
        """Append an object to `placed`; False if no room was found."""
        rng = self.rng
        extent = SIZES[attributes['size']] * self.unit * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
        rotation = float(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION))
        rgb = _jittered(rng, attributes['color'])
        points = outline(attributes['shape'], extent, rotation)
        reach = points.max(axis=0) + 1.5
        for center in rng.uniform(reach, np.array([self.width, self.height]) - reach, size=(tries, 2)):
            polygon = np.round(points + center, 2)
            if self._fits(polygon, attributes['color']):
                mask = rasterize(polygon, self.height, self.width)
                shape, color, size, texture = (attributes[key] for key in ('shape', 'color', 'size', 'texture'))
                if self._add(SceneObject(shape, color, size, texture, rgb, extent, rotation, polygon, mask)):
                    return True
        return False

    def _fits(self, polygon: np.ndarray, color: str) -> bool:
        """Cheap test on boxes: objects of one color must stay apart, or their edge would be invisible."""
        box = (*polygon.min(axis=0), *polygon.max(axis=0))
        return all(
            _separate(box, other.box, self.gap)
            for other in self.placed
            if other.color == color or self.max_covered == 0
        )

    def _add(self, new: SceneObject) -> bool:
        """Exact test on masks: in any drawing order, no object may lose more than `max_covered` of its area."""
        overlaps = [
            0 if _separate(new.box, other.box, 1.0) else int((new.mask & other.mask).sum()) for other in self.placed
        ]
        covered = [old + more for old, more in zip(self.covered, overlaps)] + [sum(overlaps)]
        objects = self.placed + [new]
        if any(lost > self.max_covered * obj.mask.sum() for lost, obj in zip(covered, objects) if lost):
            return False
        self.placed, self.covered = objects, covered
        return True


def sample_scene(rng: np.random.Generator, size: int, rules: SceneRules = ORDINARY) -> Scene:
    """A scene on a canvas whose long side is `size` pixels."""
    share_w, share_h = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    width, height = round(size * share_w), round(size * share_h)
    while True:
        background = sample_background(rng)
        placer = _Placer(rng, height, width, rules.scale)
        wanted = _AttributeSampler(rng, _usable_colors(background), rules).draw(int(rng.choice(rules.counts)))
        # Large objects first: room for them is rarer.
        for attributes in sorted(wanted, key=lambda item: -SIZES[item['size']]):
            placer.place(attributes)
        if len(placer.placed) >= rules.least:
            break
    objects = [placer.placed[i] for i in rng.permutation(len(placer.placed))]
    for z, obj in enumerate(objects):
        obj.z = z
    return Scene(height, width, background, objects)
