"""Sentences that mean several objects of a scene. They have four forms:

* group: all objects that a phrase fits, "all red stars", "both circles that are small".
* place: a phrase fits three or more; the two extreme ones by place or size are meant, "the two leftmost circles".
* relation: of the objects that a phrase fits, those on the named side of an anchor, but not all, "the circles left of
  the green triangle".
* pair: the objects that either of two phrases fits, "the red circles and the blue square".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .polygons import SHAPES
from .scene_queries import RELATION_FAR, SIDES, Phrase, SceneQueries, is_short
from .single_target import (
    NOUNS,
    PLACE,
    Plan,
    clause,
    has_clause,
    pick,
    realize,
    relation_words,
    singular,
    sole_phrase,
    words_of,
)

# A determiner and whether a plural follows it.
_ALL: tuple[tuple[str, bool], ...] = (('all', True), ('the', True), ('', True), ('every', False), ('each', False))
_COUNTED: dict[int, tuple[tuple[str, bool], ...]] = {
    2: (('both', True), ('the two', True)),
    3: (('all three', True), ('the three', True)),
}
_EXTREMES = 'the two '
# Key: whether the noun is a plural.
_CLAUSES = {True: 'that are', False: 'that is'}
_MOST_OF_A_PAIR = 4
# Share of each form, if the scene allows all of them.
_SHARES = dict(group=0.4, place=0.15, relation=0.2, pair=0.25)


@dataclass(frozen=True)
class Group(Plan):
    """A plan for a sentence about `count` objects; one object only as part of a pair."""

    count: int = 2


@dataclass(frozen=True)
class Pair:
    """A plan for two groups."""

    first: Group
    second: Group


Several = Group | Pair
# The objects that are meant, and the plan for them.
Described = tuple[frozenset[int], Several]
# Key: the form.
Plans = dict[str, list[Described]]


def plural(noun: str) -> str:
    return noun + ('es' if noun.endswith('s') else 's')


def new_words() -> list[str]:
    """Words that these sentences add to the vocabulary of single objects."""
    determiners = [word for forms in (_ALL, *_COUNTED.values()) for word, _ in forms]
    return words_of(*map(plural, SHAPES + NOUNS), *determiners, _EXTREMES, *_CLAUSES.values())


def _groups(short: list[tuple[Phrase, frozenset[int]]]) -> Iterator[Described]:
    for phrase, fits in short:
        if phrase and len(fits) > 1:
            yield fits, Group('group', phrase, count=len(fits))


def _places(queries: SceneQueries, short: list[tuple[Phrase, frozenset[int]]]) -> Iterator[Described]:
    choices = [
        (which, phrase, fits, frozenset(two))
        for which in PLACE
        for phrase, fits in short
        if len(fits) > 2 and (which in SIDES or 'size' not in phrase)
        for two in combinations(sorted(fits), 2)
    ]
    for which, phrase, fits, two in choices:
        if all(queries.is_extreme(index, fits - two, which) for index in two):
            yield two, Group('place', phrase, PLACE[which][0])


def _relations(
    rng: np.random.Generator, queries: SceneQueries, short: list[tuple[Phrase, frozenset[int]]]
) -> Iterator[Described]:
    named = {index: sole_phrase(rng, queries, index, extra=0.3) for index in range(len(queries.objects))}
    choices = [
        (anchor, phrase_of_anchor, side, phrase, fits - {anchor})
        for anchor, phrase_of_anchor in named.items()
        if phrase_of_anchor
        for side in SIDES
        for phrase, fits in short
    ]
    for anchor, phrase_of_anchor, side, phrase, fits in choices:
        inside = frozenset(index for index in fits if queries.is_on_side(index, anchor, side))
        outside = fits - inside
        clear = all(queries.lead(index, anchor, side)[0] <= RELATION_FAR for index in outside)
        if len(inside) > 1 and outside and clear:
            words = relation_words(queries, side, anchor, fits)
            yield inside, Group('relation', phrase, words, phrase_of_anchor, len(inside))


def _pairs(short: list[tuple[Phrase, frozenset[int]]]) -> Iterator[Described]:
    parts = [(fits, Group('group', phrase, count=len(fits))) for phrase, fits in short if phrase]
    for (fits, first), (others, second) in combinations(parts, 2):
        if not fits & others and len(fits | others) <= _MOST_OF_A_PAIR:
            yield fits | others, Pair(first, second)


def plan_several(rng: np.random.Generator, queries: SceneQueries) -> Plans:
    """All plans for several objects, by form, without the forms that the scene does not allow."""
    short = [(phrase, fits) for phrase, fits in queries.all_phrases() if is_short(phrase)]
    found = dict(
        group=list(_groups(short)),
        place=list(_places(queries, short)),
        relation=list(_relations(rng, queries, short)),
        pair=list(_pairs(short)),
    )
    return {form: described for form, described in found.items() if described}


def draw_form(rng: np.random.Generator, plans: Plans) -> str:
    shares = np.array([_SHARES[form] for form in plans])
    return str(rng.choice(list(plans), p=shares / shares.sum()))


def say_several(rng: np.random.Generator, plan: Several) -> str:
    """The plan in words, drawn from its wordings."""
    if isinstance(plan, Pair):
        first, second = (plan.first, plan.second) if rng.random() < 0.5 else (plan.second, plan.first)
        return f'{_part(rng, first)} and {_part(rng, second)}'
    if plan.kind == 'place':
        return _EXTREMES + pick(rng, plan.words).format(realize(rng, plan.phrase, plural))
    if plan.anchor is not None:
        return f'{_all_of(rng, plan)} {pick(rng, plan.words)} the {realize(rng, plan.anchor)}'
    if has_clause(plan.phrase) and rng.random() < 0.2:
        return _all_that_are(rng, plan)
    return _all_of(rng, plan)


def _determiner(rng: np.random.Generator, plan: Group) -> tuple[str, bool]:
    return pick(rng, _ALL + _COUNTED.get(plan.count, ()))


def _all_of(rng: np.random.Generator, plan: Group) -> str:
    determiner, is_plural = _determiner(rng, plan)
    return f'{determiner} {realize(rng, plan.phrase, plural if is_plural else singular)}'.lstrip()


def _all_that_are(rng: np.random.Generator, plan: Group) -> str:
    determiner, is_plural = _determiner(rng, plan)
    noun = plan.phrase.get('shape') or pick(rng, NOUNS)
    noun = plural(noun) if is_plural else noun
    return f'{determiner} {noun} {_CLAUSES[is_plural]} {clause(rng, plan.phrase)}'.lstrip()


def _part(rng: np.random.Generator, plan: Group) -> str:
    """One side of a pair, with an article, so that it is clear where the other side ends."""
    if plan.count == 1:
        return f'the {realize(rng, plan.phrase)}'
    return f'{pick(rng, ("the", "all"))} {realize(rng, plan.phrase, plural)}'
