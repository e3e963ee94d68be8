"""Grammar of sentences that mean exactly one object of a scene. They are of three kinds:

* attribute: a phrase (size, texture, color, shape) that fits one object only, "the small red star".
* place: a phrase fits two or more objects; the extreme one by place or size is meant, "the leftmost circle".
* relation: a phrase fits two or more objects; the only one on the named side of an anchor is meant, "the square left
  of the green triangle". The anchor's own phrase fits only the anchor.

With left and right, leftmost and rightmost swapped, a sentence describes the mirrored picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .polygons import SHAPES
from .scene_queries import PLACE_MARGIN, RELATION_FAR, SIDES, Phrase, SceneQueries
from .scene_sampling import COLORS, TEXTURES, Scene

KINDS = ('attribute', 'place', 'relation')
MAX_WORDS = 14

NOUNS = ('thing', 'one', 'object', 'shape')
SIZE_WORDS = dict(small=('small', 'small', 'little'), large=('large', 'large', 'big'))
WITH = dict(striped='stripes', dotted='dots')
# `{0}` stands for a phrase. The second forms do not compare, so they are used only where the object lies in the outer
# part of the picture and the runner-up is twice as far behind.
PLACE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = dict(
    left=(('leftmost {0}', '{0} furthest to the left'), ('{0} on the far left', 'far left {0}')),
    right=(('rightmost {0}', '{0} furthest to the right'), ('{0} on the far right', 'far right {0}')),
    top=(('topmost {0}', 'highest {0}'), ('{0} at the very top', '{0} at the top', 'top {0}')),
    bottom=(('lowest {0}', 'bottommost {0}'), ('{0} at the very bottom', '{0} at the bottom', 'bottom {0}')),
    big=(('biggest {0}', 'largest {0}'), ()),
    small=(('smallest {0}',), ()),
)
RELATION: dict[str, tuple[str, ...]] = dict(
    left=('left of', 'to the left of', 'on the left of'),
    right=('right of', 'to the right of', 'on the right of'),
    top=('above', 'higher than'),
    bottom=('below', 'lower than', 'under', 'beneath'),
)


def words_of(*texts: str) -> list[str]:
    return [word for text in texts for word in text.replace('{0}', ' ').split()]


def _vocabulary() -> tuple[str, ...]:
    sizes = [word for words in SIZE_WORDS.values() for word in words]
    places = [text for pair in PLACE.values() for texts in pair for text in texts]
    relations = [text for texts in RELATION.values() for text in texts]
    words = words_of(
        *SHAPES, *COLORS, *TEXTURES, *WITH.values(), *sizes, *NOUNS, *places, *relations, 'a an the that is and with'
    )
    return tuple(dict.fromkeys(words))


VOCABULARY: tuple[str, ...] = _vocabulary()


@dataclass(frozen=True)
class Plan:
    """Content of a sentence: an object that `phrase` fits, and alternative `words` for its place or relation."""

    kind: str
    phrase: Phrase
    words: tuple[str, ...] = ()
    anchor: Phrase | None = None


Item = TypeVar('Item')


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]


def singular(noun: str) -> str:
    """The noun as it is."""
    return noun


def realize(rng: np.random.Generator, phrase: Phrase, inflect: Callable[[str], str] = singular) -> str:
    """A phrase in words without an article; `inflect` may make the noun a plural."""
    noun = inflect(phrase.get('shape') or pick(rng, NOUNS if phrase else ('thing', 'object', 'shape')))
    words = [phrase[key] for key in ('texture', 'color') if key in phrase]
    if phrase.get('texture', 'plain') != 'plain' and rng.random() < 0.3:
        noun, words = f'{noun} with {WITH[phrase["texture"]]}', words[1:]
    if len(words) == 2 and words[0] != 'plain' and rng.random() < 0.3:
        words.reverse()
    if 'size' in phrase:
        words.insert(0, pick(rng, SIZE_WORDS[phrase['size']]))
    return ' '.join(words + [noun])


def with_article(rng: np.random.Generator, text: str, bare: float = 0.2) -> str:
    """The noun phrase with its article, or without it, with the probability `bare`."""
    return text if rng.random() < bare else f'the {text}'


def has_clause(phrase: Phrase) -> bool:
    """Whether a phrase has one or two adjectives, so that a relative clause can hold them."""
    return 1 <= len(phrase) - ('shape' in phrase) <= 2


def clause(rng: np.random.Generator, phrase: Phrase) -> str:
    """The adjectives of a phrase after "that is": "red and small"."""
    adjectives = [
        pick(rng, SIZE_WORDS[value]) if key == 'size' else value for key, value in phrase.items() if key != 'shape'
    ]
    if len(adjectives) == 2 and rng.random() < 0.5:
        adjectives.reverse()
    return ' and '.join(adjectives)


def _that_is(rng: np.random.Generator, phrase: Phrase) -> str:
    """A noun with a relative clause: "the star that is red and small"."""
    noun = phrase.get('shape') or pick(rng, NOUNS)
    adjectives = clause(rng, phrase)
    definite = rng.random() < 0.5 or noun == 'one'
    article = 'the' if definite else 'an' if noun == 'object' else 'a'
    return f'{article} {noun} that is {adjectives}'


def sole_phrase(rng: np.random.Generator, queries: SceneQueries, index: int, extra: float) -> Phrase | None:
    """A phrase that fits only this object: one of the shortest or, with probability `extra`, a longer one."""
    sole = [phrase for phrase, fits in queries.phrases(index) if fits == {index}]
    shortest = [phrase for phrase in sole if not any(other.items() < phrase.items() for other in sole)]
    longer = [phrase for phrase in sole if phrase not in shortest and phrase.get('texture') != 'plain']
    if not shortest:
        return None
    return pick(rng, longer if longer and rng.random() < extra else shortest)


def plan_attribute(rng: np.random.Generator, queries: SceneQueries, index: int) -> Plan | None:
    phrase = sole_phrase(rng, queries, index, extra=0.5)
    return None if phrase is None else Plan('attribute', phrase)


def plan_place(rng: np.random.Generator, queries: SceneQueries, index: int) -> Plan | None:
    for which in rng.permutation(list(PLACE)).tolist():
        groups = [
            (phrase, others)
            for phrase, others in queries.groups(index)
            if (which in SIDES or 'size' not in phrase) and queries.is_extreme(index, others, which)
        ]
        if groups:
            phrase, others = pick(rng, groups)
            forms, outer = PLACE[which]
            if (
                which in SIDES
                and queries.is_in_outer_part(index, which)
                and queries.is_extreme(index, others, which, 2 * PLACE_MARGIN)
            ):
                forms = forms + outer
            return Plan('place', phrase, forms)
    return None


def plan_relation(rng: np.random.Generator, queries: SceneQueries, index: int) -> Plan | None:
    pairs = [
        (side, anchor)
        for side in RELATION
        for anchor in queries.everything - {index}
        if queries.is_on_side(index, anchor, side)
    ]
    for i in rng.permutation(len(pairs)).tolist():
        side, anchor = pairs[i]
        # Another object must fit the phrase, or the relation would not be needed.
        groups = [
            (phrase, others - {anchor})
            for phrase, others in queries.groups(index)
            if others - {anchor}
            and all(queries.lead(other, anchor, side)[0] <= RELATION_FAR for other in others - {anchor})
        ]
        named = sole_phrase(rng, queries, anchor, extra=0.3) if groups else None
        if named is not None:
            phrase, others = pick(rng, groups)
            return Plan('relation', phrase, relation_words(queries, side, anchor, others | {index}), named)
    return None


def relation_words(queries: SceneQueries, side: str, anchor: int, candidates: frozenset[int]) -> tuple[str, ...]:
    """Words for a side of an anchor that cannot mean another relation of a candidate."""
    # "under" may also mean "covered by".
    covered = side == 'bottom' and any(queries.boxes_overlap(candidate, anchor) for candidate in candidates)
    return RELATION[side][:2] if covered else RELATION[side]


def say(rng: np.random.Generator, plan: Plan) -> str:
    """The plan in words, drawn from its wordings."""
    if plan.anchor is not None:
        noun = with_article(rng, realize(rng, plan.phrase))
        return f'{noun} {pick(rng, plan.words)} the {realize(rng, plan.anchor)}'
    if plan.kind == 'place':
        return with_article(rng, pick(rng, plan.words).format(realize(rng, plan.phrase)))
    if has_clause(plan.phrase) and rng.random() < 0.2:
        return _that_is(rng, plan.phrase)
    return with_article(rng, realize(rng, plan.phrase), bare=0.3)


PLANNERS: dict[str, Callable[[np.random.Generator, SceneQueries, int], Plan | None]] = dict(
    attribute=plan_attribute, place=plan_place, relation=plan_relation
)


def _describe(rng: np.random.Generator, queries: SceneQueries, index: int, kind: str) -> str | None:
    plan = PLANNERS[kind](rng, queries, index)
    sentence = say(rng, plan) if plan else None
    return sentence if sentence and len(sentence.split()) <= MAX_WORDS else None


def _sentences(rng: np.random.Generator, queries: SceneQueries, index: int, count: int) -> list[tuple[str, str]]:
    """Up to `count` different (kind, sentence) of an object."""
    # A place can nearly always be named. Another kind often goes first, so that over a data set the three kinds are
    # about equally frequent.
    before = pick(rng, ('relation', 'relation', 'place'))
    found: dict[str, str] = {}
    for kind in ['relation', 'attribute', before, 'place', *('relation', 'attribute', 'place') * 2]:
        sentence = _describe(rng, queries, index, kind) if len(found) < count else None
        if sentence:
            found.setdefault(sentence, kind)
    return [(kind, sentence) for sentence, kind in found.items()]


def refer(
    rng: np.random.Generator,
    scene: Scene,
    references: int = 3,
    sentences: int = 3,
    describe: Callable[[np.random.Generator, SceneQueries, int, int], list[tuple[str, str]]] = _sentences,
) -> list[tuple[int, list[tuple[str, str]]]]:
    """References to objects of a scene; first those that have more than a place.

    Args:
        references: Maximal number of references.
        sentences: Maximal number of sentences of a reference.
        describe: Gives the (kind, sentence) pairs of an object.

    Returns:
        Up to `references` pairs of an object's index and its (kind, sentence) pairs; possibly none. Every sentence has
        exactly one right answer.
    """
    queries = SceneQueries(scene)
    described = [
        (int(index), describe(rng, queries, int(index), sentences)) for index in rng.permutation(len(scene.objects))
    ]
    described.sort(key=lambda item: -len({kind for kind, _ in item[1]} - {'place'}))
    return [item for item in described if item[1]][:references]
