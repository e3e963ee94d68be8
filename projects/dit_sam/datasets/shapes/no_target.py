"""Sentences that mean no object of a scene: true sentences with one thing changed.

An attribute is replaced, often by one of another object: "the red star" next to a blue star and a red circle. Or a
place, or the side of an anchor, is replaced by one without such objects. So neither the words alone nor the objects of
a picture alone reveal these sentences.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np

from .multi_target import Group, Pair, Several
from .polygons import SHAPES
from .scene_queries import OUTER, SIDES, SPOKEN_SIZES, Phrase, SceneQueries, is_short
from .scene_sampling import COLORS, TEXTURES
from .single_target import PLACE, Plan, pick, relation_words, sole_phrase

AnyPlan = TypeVar('AnyPlan', bound=Plan)
_VALUES: dict[str, tuple[str, ...]] = dict(size=SPOKEN_SIZES, texture=TEXTURES, color=tuple(COLORS), shape=SHAPES)
# Objects that are not on the named side stay at least this far from it.
_CLEARLY_NOT = -0.05
# How often a place is changed instead of an attribute, and how often each part of a relation.
_WRONG_PLACE = 0.15
_PARTS = dict(side=0.5, phrase=0.3, anchor=0.2)
# Forms that name a place, not the one object nearest to it.
_AT_A_PLACE = {side: tuple(form for form in PLACE[side][1] if form.startswith('{0}')) for side in SIDES}


def _nothing_fits(queries: SceneQueries, phrase: Phrase) -> bool:
    """Whether a phrase clearly fits no object, but could fit one in another picture."""
    # Small objects are always plain, and a medium one is neither clearly small nor clearly large.
    if phrase.get('size') == 'small' and 'texture' in phrase or queries.fitting(phrase):
        return False
    unsized = {key: value for key, value in phrase.items() if key != 'size'}
    return 'size' not in phrase or not any(queries.objects[i].size == 'medium' for i in queries.fitting(unsized))


def spoil_phrase(rng: np.random.Generator, queries: SceneQueries, phrase: Phrase, near: bool) -> Phrase | None:
    """The phrase with one other value, so that it fits no object; None if there is no such phrase.

    With `near`, another object of the picture has that value.
    """
    changed = [
        {**phrase, key: value}
        for key in phrase
        for value in _VALUES[key]
        if value != phrase[key] and not (near and not queries.fitting({key: value}))
    ]
    choices = [new for new in changed if _nothing_fits(queries, new)]
    return pick(rng, choices) if choices else None


def _new_phrase(rng: np.random.Generator, queries: SceneQueries, plan: AnyPlan, near: bool) -> AnyPlan | None:
    phrase = spoil_phrase(rng, queries, plan.phrase, near)
    return None if phrase is None else replace(plan, phrase=phrase)


def _new_anchor(rng: np.random.Generator, queries: SceneQueries, plan: Plan, near: bool) -> Plan | None:
    assert plan.anchor is not None
    anchor = spoil_phrase(rng, queries, plan.anchor, near)
    return None if anchor is None else replace(plan, anchor=anchor)


def _wrong_place(rng: np.random.Generator, queries: SceneQueries, plan: Plan) -> Plan | None:
    """A plan for a sentence about a place, for two or more objects that are all in the other half."""
    found = [
        (side, phrase)
        for phrase, fits in queries.all_phrases()
        if is_short(phrase) and len(fits) > 1
        for side in SIDES
        if all(queries.distance(index, side) >= 1 - OUTER for index in fits)
    ]
    if not found:
        return None
    side, phrase = pick(rng, found)
    return replace(plan, phrase=phrase, words=_AT_A_PLACE[side])


def _wrong_side(rng: np.random.Generator, queries: SceneQueries, plan: Plan) -> Plan | None:
    """A plan for a sentence about a side of an anchor, for two or more objects that are not on that side."""
    short = [
        (phrase, fits - {anchor}, anchor)
        for phrase, fits in queries.all_phrases()
        if is_short(phrase)
        for anchor in queries.everything
    ]
    found = [
        (side, phrase, fits, anchor)
        for phrase, fits, anchor in short
        if len(fits) > 1
        for side in SIDES
        if all(queries.lead(index, anchor, side)[0] <= _CLEARLY_NOT for index in fits)
    ]
    if not found:
        return None
    side, phrase, fits, anchor = pick(rng, found)
    named = sole_phrase(rng, queries, anchor, extra=0.3)
    if not named:
        return None
    return replace(plan, phrase=phrase, words=relation_words(queries, side, anchor, fits), anchor=named)


def spoil_plan(
    rng: np.random.Generator, queries: SceneQueries, plan: Plan | Several, near: bool
) -> Plan | Several | None:
    """A plan like the given one that no object fits; None if none was found.

    With `near`, every attribute that it names is in the picture, but not on one object.
    """
    if isinstance(plan, Pair):
        first, second = _new_phrase(rng, queries, plan.first, near), _new_phrase(rng, queries, plan.second, near)
        return Pair(first, second) if first and second else None
    if plan.kind == 'relation':
        part = str(rng.choice(list(_PARTS), p=list(_PARTS.values())))
        if part == 'side':
            return _wrong_side(rng, queries, plan)
        return (_new_phrase if part == 'phrase' else _new_anchor)(rng, queries, plan, near)
    wrong_place = plan.kind == 'place' and not isinstance(plan, Group) and rng.random() < _WRONG_PLACE
    return _wrong_place(rng, queries, plan) if wrong_place else _new_phrase(rng, queries, plan, near)
