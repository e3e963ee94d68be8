"""Harder sentences that mean exactly one object of a scene. Beside the kinds of single objects there is a fourth:

* nested: the anchor of a relation is itself described by a place or a relation, "the star below the leftmost blue
  square", "the square left of the circle that is above the red star"; or two relations hold, "the star right of the
  blue cross and above the circle".

Each place and relation is needed. "that is" says which noun a second relation describes. It is left out only where the
answer is the same if that relation describes the first noun.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from .scene_queries import RELATION_FAR, RELATION_NEAR, SIDES, Phrase, SceneQueries
from .single_target import KINDS, PLANNERS, pick, plan_place, realize, relation_words, say, sole_phrase, with_article

HARD_KINDS = (*KINDS, 'nested')
# The text encoder of the small models reads 20 tokens, two of which are not words.
MAX_WORDS = 18
_TRIES = 12
# How often a phrase is taken, if there is one, whose every attribute is needed too.
_SHARP = 0.75

# A side and the anchor that an object is on this side of.
Relation = tuple[str, int]


def _beyond(queries: SceneQueries, relation: Relation, margin: float) -> frozenset[int]:
    """The objects that are further toward a side than an anchor."""
    side, anchor = relation
    return frozenset(i for i in queries.everything if queries.lead(i, anchor, side)[0] > margin)


def _relations(rng: np.random.Generator, queries: SceneQueries, index: int) -> list[Relation]:
    """The sides that an object is clearly on, in random order."""
    found = [
        (side, anchor)
        for side in SIDES
        for anchor in sorted(queries.everything - {index})
        if queries.is_on_side(index, anchor, side)
    ]
    return [found[i] for i in rng.permutation(len(found)).tolist()]


def _phrase(rng: np.random.Generator, queries: SceneQueries, index: int, relations: list[Relation]) -> Phrase | None:
    """A short phrase that means the object together with all the relations, but not without one of them."""
    candidates = queries.everything - {anchor for _, anchor in relations}
    possible = candidates.intersection(*(_beyond(queries, relation, RELATION_FAR) for relation in relations))
    sure = [_beyond(queries, relation, RELATION_NEAR) for relation in relations]
    # For each relation, the objects to which the others apply.
    without = [candidates.intersection(*sure[:i], *sure[i + 1 :]) for i in range(len(sure))]
    short = [
        phrase
        for phrase, others in queries.groups(index)
        if not others & possible and all(others & rest for rest in without)
    ]
    if not short:
        return None
    both = candidates.intersection(*sure)
    sharp = [
        phrase
        for phrase in short
        if all(queries.fitting({k: v for k, v in phrase.items() if k != key}) & both != {index} for key in phrase)
    ]
    return pick(rng, sharp if sharp and rng.random() < _SHARP else short)


def _placed(rng: np.random.Generator, queries: SceneQueries, index: int) -> str | None:
    """An object by its place, "leftmost blue square"; words after the noun could describe another noun."""
    plan = plan_place(rng, queries, index)
    words = [form for form in plan.words if form.endswith('{0}')] if plan else []
    return pick(rng, words).format(realize(rng, plan.phrase)) if plan and words else None


def _named(rng: np.random.Generator, queries: SceneQueries, index: int) -> str | None:
    """An object by its place or its attributes."""
    phrase = sole_phrase(rng, queries, index, extra=0.3)
    if phrase is None or rng.random() < 0.3:
        return _placed(rng, queries, index)
    return realize(rng, phrase)


def _link(rng: np.random.Generator, queries: SceneQueries, relation: Relation, phrase: Phrase) -> str:
    """Words for a relation of an object that a phrase fits."""
    return pick(rng, relation_words(queries, *relation, queries.fitting(phrase)))


def _to_place(rng: np.random.Generator, queries: SceneQueries, index: int) -> Iterator[str]:
    """Sentences like "the star below the leftmost blue square"."""
    for relation in _relations(rng, queries, index):
        phrase, anchor = _phrase(rng, queries, index, [relation]), _placed(rng, queries, relation[1])
        if phrase is not None and anchor:
            noun = with_article(rng, realize(rng, phrase))
            yield f'{noun} {_link(rng, queries, relation, phrase)} the {anchor}'


def _both(rng: np.random.Generator, queries: SceneQueries, index: int) -> Iterator[str]:
    """Sentences like "the star right of the blue cross and above the circle"."""
    relations = _relations(rng, queries, index)
    pairs = [(one, two) for one in relations for two in relations if one[0] != two[0] and one[1] != two[1]]
    for i in rng.permutation(len(pairs)).tolist():
        phrase = _phrase(rng, queries, index, list(pairs[i]))
        anchors = [_named(rng, queries, anchor) for _, anchor in pairs[i]] if phrase is not None else [None]
        if phrase is not None and all(anchors):
            parts = [f'{_link(rng, queries, link, phrase)} the {name}' for link, name in zip(pairs[i], anchors)]
            clause = ' that is' if rng.random() < 0.3 else ''
            yield f'{with_article(rng, realize(rng, phrase))}{clause} {" and ".join(parts)}'


def _chain(rng: np.random.Generator, queries: SceneQueries, index: int) -> Iterator[str]:
    """Sentences like "the square left of the circle that is above the red star"."""
    for first in _relations(rng, queries, index):
        phrase = _phrase(rng, queries, index, [first])
        seconds = _relations(rng, queries, first[1]) if phrase is not None else []
        for second in seconds:
            between = _phrase(rng, queries, first[1], [second]) if second[1] != index else None
            last = _named(rng, queries, second[1]) if between is not None else None
            if phrase is not None and between is not None and last:
                clear = _means_the_same(queries, index, (phrase, first), (between, second)) and rng.random() < 0.7
                words = [
                    with_article(rng, realize(rng, phrase)),
                    f'{_link(rng, queries, first, phrase)} the {realize(rng, between)}',
                    f'{"" if clear else "that is "}{_link(rng, queries, second, between)} the {last}',
                ]
                yield ' '.join(words)


def _means_the_same(
    queries: SceneQueries, index: int, noun: tuple[Phrase, Relation], between: tuple[Phrase, Relation]
) -> bool:
    """Whether a chain means the object also if its second relation describes the first noun."""
    (phrase, (side, _)), (anchors, second) = noun, between
    near = queries.fitting(anchors)
    found = {
        i
        for i in queries.fitting(phrase) & _beyond(queries, second, RELATION_FAR)
        if any(i in _beyond(queries, (side, anchor), RELATION_FAR) for anchor in near)
    }
    return found == {index} and queries.is_on_side(index, second[1], second[0])


# Each form, and how often it is tried first.
_FORMS: tuple[tuple[Callable[[np.random.Generator, SceneQueries, int], Iterator[str]], float], ...] = (
    (_to_place, 0.15),
    (_both, 0.3),
    (_chain, 0.55),
)


def _wordings(rng: np.random.Generator, queries: SceneQueries, index: int, kind: str) -> Iterator[str]:
    """Sentences of a kind; maybe none."""
    if kind != 'nested':
        plan = PLANNERS[kind](rng, queries, index)
        if plan:
            yield from (say(rng, plan) for _ in range(_TRIES))
        return
    forms, shares = zip(*_FORMS)
    for i in rng.choice(len(forms), size=len(forms), replace=False, p=shares).tolist():
        yield from islice(forms[i](rng, queries, index), _TRIES)


def hard_sentences(rng: np.random.Generator, queries: SceneQueries, index: int, count: int) -> list[tuple[str, str]]:
    """Up to `count` different (kind, sentence) of an object, for `refer`."""
    # A place or two relations can nearly always be named, the others more rarely.
    rare, common = (rng.permutation(kinds).tolist() for kinds in (('relation', 'attribute'), ('place', 'nested')))
    found: dict[str, str] = {}
    for kind in ['nested', *rare, *common, *rare, *common]:
        new = (text for text in _wordings(rng, queries, index, kind) if len(text.split()) <= MAX_WORDS)
        sentence = next((text for text in new if text not in found), None) if len(found) < count else None
        if sentence:
            found[sentence] = kind
    return [(kind, sentence) for sentence, kind in found.items()]
