"""The generalized grammar, as in gRefCOCO: sentences that mean one object of a scene, several, or none."""

from collections.abc import Iterable, Iterator

import numpy as np

from .none import spoil_plan
from .scene import Scene
from .sentences import KINDS, MAX_WORDS, PLANNERS, VOCABULARY, pick, say
from .several import Plans, draw_form, new_words, plan_several, say_several
from .world import World

GENERALIZED_KINDS = (*KINDS, 'several', 'none')
GENERALIZED_VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys((*VOCABULARY, *new_words())))

# The indices of the objects that are meant, and the (kind, sentence) pairs.
Reference = tuple[tuple[int, ...], list[tuple[str, str]]]
_TRIES = 10
# How often a sentence that means nothing shall name only attributes that are in the picture. Where half of the tries
# found none, others do.
_NEAR = 0.7


def _distinct(kind: str, sentences: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The first `count` different sentences that are not too long."""
    found: dict[str, str] = {}
    for sentence in sentences:
        if len(sentence.split()) <= MAX_WORDS:
            found.setdefault(sentence, kind)
        if len(found) == count:
            break
    return [(kind, sentence) for sentence, kind in found.items()]


def _several(rng: np.random.Generator, plans: Plans, count: int) -> Reference:
    """Sentences that mean the same several objects."""
    answer, _ = pick(rng, plans[draw_form(rng, plans)])
    same = {form: [item for item in described if item[0] == answer] for form, described in plans.items()}
    same = {form: described for form, described in same.items() if described}
    sentences = (say_several(rng, pick(rng, same[draw_form(rng, same)])[1]) for _ in range(_TRIES))
    return tuple(sorted(answer)), _distinct('several', sentences, count)


def _none(rng: np.random.Generator, world: World, plans: Plans, count: int) -> Reference:
    """Sentences that mean nothing: one as of several objects, the others as of one, in the shares of those that do."""
    kinds = ['several', *rng.permutation(KINDS).tolist()]
    sentences = (sentence for kind in kinds for sentence in _none_of_kind(rng, world, plans, kind))
    return (), _distinct('none', sentences, count)


def _none_of_kind(rng: np.random.Generator, world: World, plans: Plans, kind: str) -> Iterator[str]:
    """A sentence of a kind that means nothing; no item where too many tries failed."""
    if kind == 'several' and not plans:
        return
    form = draw_form(rng, plans) if kind == 'several' else None
    near = rng.random() < _NEAR
    for number in range(_TRIES):
        if form:
            plan = pick(rng, plans[form])[1]
        else:
            plan = PLANNERS[kind](rng, world, int(rng.integers(len(world.objects))))
        spoiled = plan and spoil_plan(rng, world, plan, near and number < _TRIES // 2)
        if spoiled:
            yield say_several(rng, spoiled) if form else say(rng, spoiled)
            return


def refer_generalized(
    rng: np.random.Generator, scene: Scene, singles: list[tuple[int, list[tuple[str, str]]]], sentences: int = 3
) -> list[Reference]:
    """References to one object, to several and to none, half, a quarter and a quarter of them.

    Args:
        singles: References of :func:`refer` to one object each; the first two are taken over.
        sentences: How many a reference has at most.

    Returns:
        For every reference the indices of the objects meant, () for none, and its (kind, sentence) pairs. The words
        of a sentence mean these objects and no other.
    """
    world = World(scene)
    plans = plan_several(rng, world)
    references = [((index,), pairs) for index, pairs in singles[:2]]
    if plans:
        references.append(_several(rng, plans, sentences))
    references.append(_none(rng, world, plans, sentences))
    return [reference for reference in references if reference[1]]
