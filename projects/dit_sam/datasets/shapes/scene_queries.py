"""Queries of the grammars about a scene: which objects a phrase fits, and how objects are placed.

Positions are the centers of the objects' boxes; y points down; distances are shares of the picture's long side.
Objects are given by their indices.
"""

from collections.abc import Iterator
from itertools import combinations

from .scene_sampling import SIZES, Scene, SceneObject

# The runner-up of a superlative of place is at least this far behind, and its box does not reach further out.
PLACE_MARGIN = 0.06
# On the named side means: at least NEAR away along the axis, and at most as far along the other axis.
# A candidate that is not a target is at most FAR on that side.
RELATION_NEAR, RELATION_FAR, RELATION_SLOPE = 0.1, 0.01, 1.0
# Unit steps toward a side, in (x, y).
SIDES = dict(left=(-1, 0), right=(1, 0), top=(0, -1), bottom=(0, 1))
# The part of the picture next to a side, as a share of its width or height.
OUTER = 0.4
# Sizes that have a word.
SPOKEN_SIZES = ('small', 'large')

Phrase = dict[str, str]


class SceneQueries:
    """Answers to the grammars' questions about a scene."""

    def __init__(self, scene: Scene) -> None:
        self.objects = scene.objects
        scale = scene.long_side
        self.extent = (scene.width / scale, scene.height / scale)
        self.centers = [(x / scale, y / scale) for x, y in (obj.center for obj in scene.objects)]
        self.boxes = [tuple(v / scale for v in obj.box) for obj in scene.objects]
        self._phrases: dict[int, list[tuple[Phrase, frozenset[int]]]] = {}
        self.everything = frozenset(range(len(scene.objects)))
        self._fits: dict[tuple[str, str], frozenset[int]] = {}
        for key in ('size', 'texture', 'color', 'shape'):
            for value in {getattr(obj, key) for obj in scene.objects}:
                self._fits[key, value] = frozenset(
                    i for i, obj in enumerate(scene.objects) if getattr(obj, key) == value
                )

    def phrases(self, index: int) -> list[tuple[Phrase, frozenset[int]]]:
        """All phrases that fit an object, the empty one first, each with all objects that it fits."""
        if index not in self._phrases:
            self._phrases[index] = list(self._phrases_of(self.objects[index]))
        return self._phrases[index]

    def all_phrases(self) -> list[tuple[Phrase, frozenset[int]]]:
        """All phrases that fit some object, each once."""
        found = {
            tuple(phrase.items()): (phrase, fits)
            for index in range(len(self.objects))
            for phrase, fits in self.phrases(index)
        }
        return list(found.values())

    def fitting(self, phrase: Phrase) -> frozenset[int]:
        """The objects that a phrase fits."""
        return self.everything.intersection(*(self._fits.get(item, frozenset()) for item in phrase.items()))

    def _phrases_of(self, obj: SceneObject) -> Iterator[tuple[Phrase, frozenset[int]]]:
        keys = [key for key in ('size', 'texture', 'color', 'shape') if key != 'size' or obj.size in SPOKEN_SIZES]
        for count in range(len(keys) + 1):
            for chosen in combinations(keys, count):
                phrase = {key: getattr(obj, key) for key in chosen}
                yield phrase, self.fitting(phrase)

    def lead(self, first: int, second: int, side: str) -> tuple[float, float]:
        """How much further toward a side the first object is, by its center and by the edge of its box."""
        axis = 0 if side in ('left', 'right') else 1
        sign = SIDES[side][axis]
        edge = axis if sign < 0 else axis + 2
        return (
            sign * (self.centers[first][axis] - self.centers[second][axis]),
            sign * (self.boxes[first][edge] - self.boxes[second][edge]),
        )

    def is_on_side(self, index: int, anchor: int, side: str) -> bool:
        """Whether an object is clearly on a side of the anchor."""
        step = SIDES[side]
        dx, dy = (a - b for a, b in zip(self.centers[index], self.centers[anchor]))
        along, across = dx * step[0] + dy * step[1], abs(dx * step[1]) + abs(dy * step[0])
        return along >= max(RELATION_NEAR, RELATION_SLOPE * across) and self.lead(index, anchor, side)[1] > 0

    def boxes_overlap(self, first: int, second: int) -> bool:
        """Whether the boxes of two objects overlap."""
        a, b = self.boxes[first], self.boxes[second]
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    def distance(self, index: int, side: str) -> float:
        """How far an object is from a side of the picture: 0 at that side, 1 at the other."""
        axis = 0 if side in ('left', 'right') else 1
        share = self.centers[index][axis] / self.extent[axis]
        return share if SIDES[side][axis] < 0 else 1 - share

    def is_in_outer_part(self, index: int, side: str) -> bool:
        """Whether an object is in the part of the picture next to a side."""
        return self.distance(index, side) < OUTER

    def groups(self, index: int) -> list[tuple[Phrase, frozenset[int]]]:
        """Short phrases that fit this object and others, each with the others."""
        return [(phrase, fits - {index}) for phrase, fits in self.phrases(index) if len(fits) > 1 and is_short(phrase)]

    def is_extreme(self, index: int, others: frozenset[int], which: str, margin: float = PLACE_MARGIN) -> bool:
        """Whether an object is clearly further toward a side, or bigger or smaller, than all others."""
        if which in SIDES:
            leads = [self.lead(index, other, which) for other in others]
            return all(center >= margin and edge > 0 for center, edge in leads)
        order = list(SIZES)
        own = order.index(self.objects[index].size)
        ranks = [order.index(self.objects[other].size) for other in others]
        return own > max(ranks) if which == 'big' else own < min(ranks)


def is_short(phrase: Phrase) -> bool:
    """Whether people would use a phrase for several objects."""
    return len(phrase) <= 2 and phrase.get('texture') != 'plain'
