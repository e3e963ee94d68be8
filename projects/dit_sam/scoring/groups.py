"""Groups of sentences: by the size of the object, the length and the words of the sentence, category, and others."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from ..datasets.instances import Instances
from .sheet import Sheet
from .truths import Truths

# Words of a sentence; the groups of the papers on RefCOCO (1-2, 3, 4-5, 6 and more) and on RefCOCOg are among them.
LENGTHS = (1, 3, 4, 6, 8, 11, 21)
# Share of the picture in percent.
SHARES = (0, 1, 2, 5, 10, 25, 50)
# Other objects of the same category in the picture.
DISTRACTORS = (0, 1, 2, 3, 5, 10)
# Words by what they say about an object. A sentence with words of several kinds is in several groups.
WORDS = dict(
    place=(
        'left right top bottom upper lower middle center centre front back corner edge side leftmost rightmost topmost '
        'bottommost closest nearest farthest furthest far near first second third last foreground background'
    ),
    attribute=(
        'red green blue yellow orange purple pink brown black white gray grey golden dark light bright striped plain '
        'dotted wooden big bigger biggest large larger largest small smaller smallest little tall taller tallest short '
        'shorter shortest tiny huge long old young metal glass plastic empty full open closed bald blond blonde'
    ),
    relation=(
        'next behind beside between under underneath over on in inside with holding wearing sitting standing riding '
        'carrying eating facing looking touching leaning against by than of to beneath above below around near'
    ),
)
_WORDS = {kind: frozenset(words.split()) for kind, words in WORDS.items()}
# Kind of group: the group of a sentence, or several.
Grouping = Callable[[int], Iterable[str]]


def groupings(sheet: Sheet, truths: Truths, instances: Instances | None = None) -> dict[str, Grouping]:
    """The ways to group the rows of a sheet, by name.

    Args:
        sheet: The counted pixels.
        truths: Their sentences.
        instances: All objects of the pictures, for the names of categories and the numbers of distractors.
    """
    names = {} if instances is None else instances.category_names

    def category(row: int) -> list[str]:
        ids = truths.about(row).get('category_id')
        if ids is None or ids == ():
            return []
        ids = sorted(set(ids)) if isinstance(ids, tuple) else [ids]
        return [' + '.join(str(names.get(number, number)) for number in ids)]

    def size(row: int) -> list[str]:
        if sheet.no_target[row]:
            return ['no object']
        share = 100 * sheet.counts['original'][row, 2] / sheet.sizes[row]
        place = bisect_right(SHARES, share)
        return [f'{SHARES[place - 1]} to {[*SHARES, 100][place]} %']

    found: dict[str, Grouping] = dict(
        kind=lambda row: filter(None, [truths.about(row).get('kind')]),
        size=size,
        length=lambda row: by_length(truths.text(row)),
        words=lambda row: by_words(truths.text(row)),
        category=category,
    )
    if instances is not None:
        found['distractors'] = lambda row: _distractors(truths.about(row), instances)
    return found


def by_length(sentence: str) -> list[str]:
    """By the number of words."""
    return [f'{_range(len(sentence.split()), LENGTHS)} words']


def by_words(sentence: str) -> list[str]:
    """By the words for place, attribute and relation that it has; `name only` if it has none."""
    words = set(re.findall(r"[a-z']+", sentence.lower()))
    return [kind for kind, known in _WORDS.items() if words & known] or ['name only']


def _distractors(info: dict, instances: Instances) -> list[str]:
    """By the number of other objects of the same category in the picture."""
    category = info.get('category_id')
    # One object of a set whose references may have several.
    if isinstance(category, tuple) and len(category) == len(info['ann_id']) == 1:
        category = category[0]
    if not isinstance(category, int):
        return []
    number = instances.number_of(info['img_id'], category) - 1
    return [] if number < 0 else [_range(number, DISTRACTORS)]


def _range(number: int, bounds: Sequence[int]) -> str:
    """The range of a number between bounds: '3', '4 to 5', '6 or more'."""
    place = bisect_right(bounds, number)
    first = bounds[place - 1]
    if place == len(bounds):
        return f'{first} or more'
    last = bounds[place] - 1
    return f'{first}' if last == first else f'{first} to {last}'
