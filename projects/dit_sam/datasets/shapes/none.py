"""Sentences that mean nothing in a scene: what is true of some of its objects, with one thing changed.

An attribute becomes another, often one that is there too, but not together with the rest: "the red star" where there
are a blue star and a red circle. A place, or the side of an anchor, becomes one where nothing that the phrase fits is.
So words alone hardly tell these sentences from others, and the objects that a picture shows do not always tell either.
"""

from dataclasses import replace

import numpy as np

from .outlines import SHAPES
from .scene import COLOURS, TEXTURES
from .sentences import PLACE, Plan, pick, relation_words, sole_phrase
from .several import Group, Pair, Several
from .world import OUTER, SIDES, SPOKEN_SIZES, Phrase, World, is_short

_VALUES = dict(size=SPOKEN_SIZES, texture=TEXTURES, colour=tuple(COLOURS), shape=SHAPES)
# Nothing that is not on the named side comes closer to it than this.
_CLEARLY_NOT = -0.05
# How often the place is changed, in place of an attribute, and how often which part of a relation.
_WRONG_PLACE = 0.15
_PARTS = dict(side=0.5, phrase=0.3, anchor=0.2)
# Forms that speak of a place, not of the one object nearest to it.
_AT_A_PLACE = {side: tuple(form for form in PLACE[side][1] if form.startswith('{0}')) for side in SIDES}


def _nothing_fits(world: World, phrase: Phrase) -> bool:
    """Whether clearly nothing fits a phrase that might fit something in another picture."""
    # Small objects are always plain, and a medium one is neither clearly small nor clearly large.
    if phrase.get('size') == 'small' and 'texture' in phrase or world.fitting(phrase):
        return False
    unsized = {key: value for key, value in phrase.items() if key != 'size'}
    return 'size' not in phrase or not any(world.objects[i].size == 'medium' for i in world.fitting(unsized))


def spoil_phrase(rng: np.random.Generator, world: World, phrase: Phrase, near: bool) -> Phrase | None:
    """The phrase with another value of one attribute, so that nothing fits it; None where that cannot be.

    With `near`, other objects of the picture have that value.
    """
    changed = [
        {**phrase, key: value}
        for key in phrase
        for value in _VALUES[key]
        if value != phrase[key] and not (near and not world.fitting({key: value}))
    ]
    choices = [new for new in changed if _nothing_fits(world, new)]
    return pick(rng, choices) if choices else None


def _new_phrase(rng: np.random.Generator, world: World, plan: Plan, near: bool, part: str = 'phrase') -> Plan | None:
    phrase = spoil_phrase(rng, world, getattr(plan, part), near)
    return None if phrase is None else replace(plan, **{part: phrase})


def _wrong_place(rng: np.random.Generator, world: World, plan: Plan) -> Plan | None:
    """A place in the picture for two or more objects that all lie in the other half."""
    found = [
        (side, phrase)
        for phrase, fits in world.all_phrases()
        if is_short(phrase) and len(fits) > 1
        for side in SIDES
        if all(world.distance(index, side) >= 1 - OUTER for index in fits)
    ]
    if not found:
        return None
    side, phrase = pick(rng, found)
    return replace(plan, phrase=phrase, words=_AT_A_PLACE[side])


def _wrong_side(rng: np.random.Generator, world: World, plan: Plan) -> Plan | None:
    """A relation to an anchor for two or more objects, none of which is on that side."""
    short = [
        (phrase, fits - {anchor}, anchor)
        for phrase, fits in world.all_phrases()
        if is_short(phrase)
        for anchor in world.everything
    ]
    found = [
        (side, phrase, fits, anchor)
        for phrase, fits, anchor in short
        if len(fits) > 1
        for side in SIDES
        if all(world.lead(index, anchor, side)[0] <= _CLEARLY_NOT for index in fits)
    ]
    if not found:
        return None
    side, phrase, fits, anchor = pick(rng, found)
    named = sole_phrase(rng, world, anchor, extra=0.3)
    return named and replace(plan, phrase=phrase, words=relation_words(world, side, anchor, fits), anchor=named)


def spoil_plan(rng: np.random.Generator, world: World, plan: Plan | Several, near: bool) -> Plan | Several | None:
    """A plan like the given one for something that is not there; None where none was found.

    With `near`, every attribute that it names is there, though not on one object.
    """
    if isinstance(plan, Pair):
        first, second = _new_phrase(rng, world, plan.first, near), _new_phrase(rng, world, plan.second, near)
        return Pair(first, second) if first and second else None
    if plan.kind == 'relation':
        part = str(rng.choice(list(_PARTS), p=list(_PARTS.values())))
        return _wrong_side(rng, world, plan) if part == 'side' else _new_phrase(rng, world, plan, near, part)
    wrong_place = plan.kind == 'place' and not isinstance(plan, Group) and rng.random() < _WRONG_PLACE
    return _wrong_place(rng, world, plan) if wrong_place else _new_phrase(rng, world, plan, near)
