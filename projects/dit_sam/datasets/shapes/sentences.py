"""The grammar: sentences that pick exactly one object of a scene, of three kinds.

* attribute: a phrase (size, texture, colour, shape) that fits one object only, "the small red star".
* place: the extreme one, by place or size, of the two or more objects that a phrase fits, "the leftmost circle".
* relation: the only one of the two or more objects that a phrase fits which lies on the named side of an anchor,
  the anchor being an object that its own phrase picks, "the square left of the green triangle".

Positions are the centres of the objects' boxes; y points down; distances are shares of the picture's long side.
Swapping left with right and leftmost with rightmost, as whole words, describes the mirrored picture.
"""
from itertools import combinations
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional, Tuple

import numpy as np

from .outlines import SHAPES
from .scene import COLOURS, SIZES, TEXTURES, Scene, SceneObject

KINDS = ('attribute', 'place', 'relation')
MAX_WORDS = 14
# The runner-up of a superlative of place stays this far behind, and its box does not reach further out.
PLACE_MARGIN = 0.06
# On the named side: at least NEAR away along the axis, and not much further along the other one.
# A candidate that is not meant lies at most FAR on that side.
RELATION_NEAR, RELATION_FAR, RELATION_SLOPE = 0.1, 0.01, 1.0

_NOUNS = ('thing', 'one', 'object', 'shape')
_SIZE_WORDS = dict(small=('small', 'small', 'little'), large=('large', 'large', 'big'))
_WITH = dict(striped='stripes', dotted='dots')
# `{0}` stands for a phrase. The second list says nothing of the others, so it is used only where the object lies in
# the outer part of the picture and the runner-up is twice as far behind.
_PLACE = dict(
    left=(('leftmost {0}', '{0} furthest to the left'), ('{0} on the far left', 'far left {0}')),
    right=(('rightmost {0}', '{0} furthest to the right'), ('{0} on the far right', 'far right {0}')),
    top=(('topmost {0}', 'highest {0}'), ('{0} at the very top', '{0} at the top', 'top {0}')),
    bottom=(('lowest {0}', 'bottommost {0}'), ('{0} at the very bottom', '{0} at the bottom', 'bottom {0}')),
    big=(('biggest {0}', 'largest {0}'), ()),
    small=(('smallest {0}', ), ()))
_OUTER = 0.4
_RELATION = dict(
    left=('left of', 'to the left of', 'on the left of'),
    right=('right of', 'to the right of', 'on the right of'),
    top=('above', 'higher than'),
    bottom=('below', 'lower than', 'under', 'beneath'))
# Unit steps towards a side, in (x, y).
_SIDES = dict(left=(-1, 0), right=(1, 0), top=(0, -1), bottom=(0, 1))


def _words(*texts: str) -> List[str]:
    return [word for text in texts for word in text.replace('{0}', ' ').split()]


def _vocabulary() -> Tuple[str, ...]:
    sizes = [word for words in _SIZE_WORDS.values() for word in words]
    places = [text for pair in _PLACE.values() for texts in pair for text in texts]
    relations = [text for texts in _RELATION.values() for text in texts]
    words = _words(*SHAPES, *COLOURS, *TEXTURES, *_WITH.values(), *sizes, *_NOUNS, *places, *relations,
                   'a an the that is and with')
    return tuple(dict.fromkeys(words))


VOCABULARY: Tuple[str, ...] = _vocabulary()

Phrase = Dict[str, str]


class _World:
    """What the grammar asks about a scene; sets of objects are sets of their indices."""

    def __init__(self, scene: Scene) -> None:
        self.objects = scene.objects
        scale = scene.long_side
        self.extent = (scene.width / scale, scene.height / scale)
        self.centres = [(x / scale, y / scale) for x, y in (obj.centre for obj in scene.objects)]
        self.boxes = [tuple(v / scale for v in obj.box) for obj in scene.objects]
        self._phrases: Dict[int, List[Tuple[Phrase, FrozenSet[int]]]] = {}
        self.everything = frozenset(range(len(scene.objects)))
        self._fits: Dict[Tuple[str, str], FrozenSet[int]] = {}
        for key in ('size', 'texture', 'colour', 'shape'):
            for value in {getattr(obj, key) for obj in scene.objects}:
                self._fits[key, value] = frozenset(
                    i for i, obj in enumerate(scene.objects) if getattr(obj, key) == value)

    def phrases(self, index: int) -> List[Tuple[Phrase, FrozenSet[int]]]:
        """All phrases that fit an object, the empty one first, each with the set of objects that it fits."""
        if index not in self._phrases:
            self._phrases[index] = list(self._phrases_of(self.objects[index]))
        return self._phrases[index]

    def _phrases_of(self, obj: SceneObject) -> Iterator[Tuple[Phrase, FrozenSet[int]]]:
        keys = [key for key in ('size', 'texture', 'colour', 'shape') if key != 'size' or obj.size in _SIZE_WORDS]
        for count in range(len(keys) + 1):
            for chosen in combinations(keys, count):
                phrase = {key: getattr(obj, key) for key in chosen}
                fits = [self._fits[item] for item in phrase.items()]
                yield phrase, self.everything.intersection(*fits)

    def lead(self, first: int, second: int, side: str) -> Tuple[float, float]:
        """How much further towards a side the first object lies, by centre and by the edge of the box."""
        axis = 0 if side in ('left', 'right') else 1
        sign = _SIDES[side][axis]
        edge = axis if sign < 0 else axis + 2
        return (sign * (self.centres[first][axis] - self.centres[second][axis]),
                sign * (self.boxes[first][edge] - self.boxes[second][edge]))

    def beside(self, index: int, anchor: int, side: str) -> bool:
        """Whether an object clearly lies on a side of the anchor."""
        step = _SIDES[side]
        dx, dy = (a - b for a, b in zip(self.centres[index], self.centres[anchor]))
        along, across = dx * step[0] + dy * step[1], abs(dx * step[1]) + abs(dy * step[0])
        return along >= max(RELATION_NEAR, RELATION_SLOPE * across) and self.lead(index, anchor, side)[1] > 0

    def touching(self, first: int, second: int) -> bool:
        """Whether the boxes of two objects overlap."""
        a, b = self.boxes[first], self.boxes[second]
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    def outer(self, index: int, side: str) -> bool:
        """Whether an object lies in the part of the picture next to a side."""
        axis = 0 if side in ('left', 'right') else 1
        share = self.centres[index][axis] / self.extent[axis]
        return (share if _SIDES[side][axis] < 0 else 1 - share) < _OUTER


def _pick(rng: np.random.Generator, items: list):
    return items[int(rng.integers(len(items)))]


def _realise(rng: np.random.Generator, phrase: Phrase) -> str:
    """A noun phrase without its article."""
    noun = phrase.get('shape') or _pick(rng, _NOUNS if phrase else ('thing', 'object', 'shape'))
    words = [phrase[key] for key in ('texture', 'colour') if key in phrase]
    if phrase.get('texture', 'plain') != 'plain' and rng.random() < 0.3:
        noun, words = f'{noun} with {_WITH[phrase["texture"]]}', words[1:]
    if len(words) == 2 and words[0] != 'plain' and rng.random() < 0.3:
        words.reverse()
    if 'size' in phrase:
        words.insert(0, _pick(rng, _SIZE_WORDS[phrase['size']]))
    return ' '.join(words + [noun])


def _with_article(rng: np.random.Generator, text: str, bare: float = 0.2) -> str:
    """The noun phrase with its article, or, with the given probability, without."""
    return text if rng.random() < bare else f'the {text}'


def _that_is(rng: np.random.Generator, phrase: Phrase) -> str:
    """A relative clause, "the star that is red and small"."""
    noun = phrase.get('shape') or _pick(rng, _NOUNS)
    adjectives = [_pick(rng, _SIZE_WORDS[value]) if key == 'size' else value for key, value in phrase.items()
                  if key != 'shape']
    if len(adjectives) == 2 and rng.random() < 0.5:
        adjectives.reverse()
    definite = rng.random() < 0.5 or noun == 'one'
    article = 'the' if definite else 'an' if noun == 'object' else 'a'
    return f'{article} {noun} that is {" and ".join(adjectives)}'


def _sole_phrase(rng: np.random.Generator, world: _World, index: int, extra: float) -> Optional[Phrase]:
    """A phrase that fits this object only: a shortest possible one, with probability `extra` a longer one."""
    sole = [phrase for phrase, fits in world.phrases(index) if fits == {index}]
    shortest = [phrase for phrase in sole if not any(other.items() < phrase.items() for other in sole)]
    longer = [phrase for phrase in sole if phrase not in shortest and phrase.get('texture') != 'plain']
    if not shortest:
        return None
    return _pick(rng, longer if longer and rng.random() < extra else shortest)


def _attribute(rng: np.random.Generator, world: _World, index: int) -> Optional[str]:
    phrase = _sole_phrase(rng, world, index, extra=0.5)
    if phrase is None:
        return None
    adjectives = len(phrase) - ('shape' in phrase)
    if 1 <= adjectives <= 2 and rng.random() < 0.2:
        return _that_is(rng, phrase)
    return _with_article(rng, _realise(rng, phrase), bare=0.3)


def _groups(world: _World, index: int) -> List[Tuple[Phrase, FrozenSet[int]]]:
    """Short phrases that fit this object and at least one more."""
    return [(phrase, fits - {index}) for phrase, fits in world.phrases(index)
            if len(fits) > 1 and len(phrase) <= 2 and phrase.get('texture') != 'plain']


def _is_extreme(world: _World, index: int, others: FrozenSet[int], which: str, margin: float = PLACE_MARGIN) -> bool:
    if which in _SIDES:
        leads = [world.lead(index, other, which) for other in others]
        return all(centre >= margin and edge > 0 for centre, edge in leads)
    order = list(SIZES)
    own = order.index(world.objects[index].size)
    ranks = [order.index(world.objects[other].size) for other in others]
    return own > max(ranks) if which == 'big' else own < min(ranks)


def _place(rng: np.random.Generator, world: _World, index: int) -> Optional[str]:
    for which in rng.permutation(list(_PLACE)).tolist():
        groups = [(phrase, others) for phrase, others in _groups(world, index)
                  if (which in _SIDES or 'size' not in phrase) and _is_extreme(world, index, others, which)]
        if groups:
            phrase, others = _pick(rng, groups)
            forms, outer = _PLACE[which]
            if which in _SIDES and world.outer(index, which) and _is_extreme(world, index, others, which,
                                                                             2 * PLACE_MARGIN):
                forms = forms + outer
            return _with_article(rng, _pick(rng, forms).format(_realise(rng, phrase)))
    return None


def _relation(rng: np.random.Generator, world: _World, index: int) -> Optional[str]:
    pairs = [(side, anchor) for side in _RELATION for anchor in world.everything - {index}
             if world.beside(index, anchor, side)]
    for i in rng.permutation(len(pairs)).tolist():
        side, anchor = pairs[i]
        # Somebody else must fit the phrase, else the relation says nothing.
        groups = [(phrase, others - {anchor}) for phrase, others in _groups(world, index) if others - {anchor} and all(
            world.lead(other, anchor, side)[0] <= RELATION_FAR for other in others - {anchor})]
        named = _sole_phrase(rng, world, anchor, extra=0.3) if groups else None
        if named is not None:
            phrase, others = _pick(rng, groups)
            # "under" may also mean "covered by".
            covered = side == 'bottom' and any(world.touching(other, anchor) for other in others | {index})
            words = _RELATION[side][:2] if covered else _RELATION[side]
            return f'{_with_article(rng, _realise(rng, phrase))} {_pick(rng, words)} the {_realise(rng, named)}'
    return None


_MAKERS: Dict[str, Callable[[np.random.Generator, _World, int], Optional[str]]] = dict(
    attribute=_attribute, place=_place, relation=_relation)


def _describe(rng: np.random.Generator, world: _World, index: int, kind: str) -> Optional[str]:
    sentence = _MAKERS[kind](rng, world, index)
    return sentence if sentence and len(sentence.split()) <= MAX_WORDS else None


def _sentences(rng: np.random.Generator, world: _World, index: int, count: int) -> List[Tuple[str, str]]:
    """Up to `count` different (kind, sentence) of an object."""
    # Some place is nearly always true, so that a second sentence of another kind often goes before it: over a data
    # set the three kinds then come out about equal.
    before = _pick(rng, ('relation', 'relation', 'place'))
    found: Dict[str, str] = {}
    for kind in ['relation', 'attribute', before, 'place', *('relation', 'attribute', 'place') * 2]:
        sentence = _describe(rng, world, index, kind) if len(found) < count else None
        if sentence:
            found.setdefault(sentence, kind)
    return [(kind, sentence) for sentence, kind in found.items()]


def refer(rng: np.random.Generator, scene: Scene, references: int = 3,
          sentences: int = 3) -> List[Tuple[int, List[Tuple[str, str]]]]:
    """References to objects of a scene, those first of which more than a place can be told.

    Returns:
        Up to `references` pairs of an object's index and its (kind, sentence) pairs, fewer (even none) where the
        scene allows no more. Every sentence has exactly one right answer.
    """
    world = _World(scene)
    described = [(int(index), _sentences(rng, world, int(index), sentences))
                 for index in rng.permutation(len(scene.objects))]
    described.sort(key=lambda item: -len({kind for kind, _ in item[1]} - {'place'}))
    return [item for item in described if item[1]][:references]
