"""Grammar as in gRefCOCO: sentences that mean one object of a scene, several, or none."""

from collections.abc import Iterable, Iterator

import numpy as np

from .multi_target import Group, Pair, Plans, draw_form, new_words, plan_several, say_several
from .no_target import spoil_plan
from .scene_queries import SceneQueries
from .scene_sampling import Scene
from .single_target import KINDS, MAX_WORDS, PLANNERS, VOCABULARY, Plan, pick, say

GENERALIZED_KINDS = (*KINDS, 'several', 'none')
GENERALIZED_VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys((*VOCABULARY, *new_words())))

# The indices of the objects that are meant, and the (kind, sentence) pairs.
Reference = tuple[tuple[int, ...], list[tuple[str, str]]]
_TRIES = 10
# How often a sentence without a target names only attributes that are in the picture. After half of the tries, any
# attributes are taken.
_NEAR = 0.7


def _distinct(kind: str, sentences: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The first `count` different sentences that are short enough."""
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


def _none(rng: np.random.Generator, queries: SceneQueries, plans: Plans, count: int) -> Reference:
    """Sentences without a target: one in the form for several objects, the others in the forms for one."""
    kinds = ['several', *rng.permutation(KINDS).tolist()]
    sentences = (sentence for kind in kinds for sentence in _none_of_kind(rng, queries, plans, kind))
    return (), _distinct('none', sentences, count)


def _none_of_kind(rng: np.random.Generator, queries: SceneQueries, plans: Plans, kind: str) -> Iterator[str]:
    """One sentence of a kind without a target, or none after too many tries."""
    if kind == 'several' and not plans:
        return
    form = draw_form(rng, plans) if kind == 'several' else None
    near = rng.random() < _NEAR
    for number in range(_TRIES):
        plan: Plan | Pair | None
        if form:
            plan = pick(rng, plans[form])[1]
        else:
            plan = PLANNERS[kind](rng, queries, int(rng.integers(len(queries.objects))))
        spoiled = plan and spoil_plan(rng, queries, plan, near and number < _TRIES // 2)
        if spoiled:
            yield say_several(rng, spoiled) if isinstance(spoiled, (Group, Pair)) else say(rng, spoiled)
            return


def refer_generalized(
    rng: np.random.Generator, scene: Scene, singles: list[tuple[int, list[tuple[str, str]]]], sentences: int = 3
) -> list[Reference]:
    """References: two to one object, one to several objects, and one to none.

    Args:
        singles: References of `refer` to one object each; the first two are kept.
        sentences: Maximal number of sentences of a reference.

    Returns:
        For every reference the indices of its objects, () for none, and its (kind, sentence) pairs. Every sentence
        means exactly these objects.
    """
    queries = SceneQueries(scene)
    plans = plan_several(rng, queries)
    references: list[Reference] = [((index,), pairs) for index, pairs in singles[:2]]
    if plans:
        references.append(_several(rng, plans, sentences))
    references.append(_none(rng, queries, plans, sentences))
    return [reference for reference in references if reference[1]]
