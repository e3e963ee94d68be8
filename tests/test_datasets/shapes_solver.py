"""A solver of `shapes` sentences that uses English and the symbolic scene, but not the grammar that made them."""

import re

ATTRIBUTES = {
    **{word: ('shape', word) for word in 'circle square triangle star cross'.split()},
    **{word: ('colour', word) for word in 'red green blue yellow purple orange white black'.split()},
    **{word: ('texture', word) for word in 'plain striped dotted'.split()},
    'stripes': ('texture', 'striped'), 'dots': ('texture', 'dotted'),
    'small': ('size', 'small'), 'little': ('size', 'small'), 'large': ('size', 'large'), 'big': ('size', 'large'),
}  # fmt: skip
FILLERS = set('the a an thing one object shape that is and with'.split())
SINGULAR = dict(circles='circle', squares='square', triangles='triangle', stars='star', crosses='cross',
                things='thing', ones='one', objects='object', shapes='shape', are='is')  # fmt: skip
# The number of objects that a word implies; None if it only implies all of them.
NUMBERS = dict(both=2, two=2, three=3, all=None, every=None, each=None)
RELATIONS = [
    ('to the left of', 'left'),
    ('on the left of', 'left'),
    ('left of', 'left'),
    ('to the right of', 'right'),
    ('on the right of', 'right'),
    ('right of', 'right'),
    ('above', 'up'),
    ('higher than', 'up'),
    ('below', 'down'),
    ('under', 'down'),
    ('beneath', 'down'),
    ('lower than', 'down'),
]
EXTREMES = [
    ('furthest to the left', 'left'),
    ('on the far left', 'left'),
    ('far left', 'left'),
    ('leftmost', 'left'),
    ('furthest to the right', 'right'),
    ('on the far right', 'right'),
    ('far right', 'right'),
    ('rightmost', 'right'),
    ('at the very top', 'up'),
    ('at the top', 'up'),
    ('topmost', 'up'),
    ('top', 'up'),
    ('highest', 'up'),
    ('at the very bottom', 'down'),
    ('at the bottom', 'down'),
    ('bottommost', 'down'),
    ('bottom', 'down'),
    ('lowest', 'down'),
    ('biggest', 'big'),
    ('largest', 'big'),
    ('smallest', 'small'),
]
# Phrases that also say in which part of the picture something is.
PLACES = 'on the far left', 'on the far right', 'at the very top', 'at the top', 'at the very bottom', 'at the bottom'


def matching(phrase, objects):
    """Objects that have every attribute of a phrase; a word that is not understood is an error."""
    wanted = [ATTRIBUTES[word] for word in phrase.split() if word not in FILLERS]
    return [obj for obj in objects if all(obj[key] == value for key, value in wanted)]


def cut(sentence, table):
    """(before, direction, after) around the first entry of a table that occurs as whole words."""
    for words, direction in table:
        before, found, after = f' {sentence} '.partition(f' {words} ')
        if found:
            return before, direction, after
    return None


def position(obj, direction):
    """How far an object is in a direction: (by its center, by the edge of its box)."""
    (x, y), (x0, y0, x1, y1) = obj['centre'], obj['box']
    return dict(left=(-x, -x0), right=(x, x1), up=(-y, -y0), down=(y, y1))[direction]


def solve(sentence, scene):
    """The ann_id of the only object that a sentence can mean; AssertionError if it is ambiguous."""
    objects, unit = scene['objects'], max(scene['height'], scene['width'])
    relation, extreme = cut(sentence, RELATIONS), cut(sentence, EXTREMES)
    if relation:
        target, direction, anchor = relation
        anchors = matching(anchor, objects)
        assert len(anchors) == 1, 'the anchor is one object'
        candidates = [obj for obj in matching(target, objects) if obj is not anchors[0]]
        assert len(candidates) > 1, 'the relation is needed'
        found = on_side(candidates, direction, anchors[0], unit)
    elif extreme:
        before, direction, after = extreme
        found = most_extreme(matching(f'{before} {after}', objects), direction, unit)
    else:
        found = matching(sentence, objects)
    assert len(found) == 1, 'a sentence fits one object'
    return found[0]['ann_id']


def on_side(candidates, direction, anchor, unit):
    strict, lenient = readings(candidates, direction, anchor, unit)
    assert strict == lenient, 'a strict and a lenient reading agree'
    return strict


def readings(candidates, direction, anchor, unit):
    """The candidates that are clearly on a side of an anchor, and all that could be meant to be there."""
    across = dict(left='up', right='up', up='left', down='left')[direction]
    strict, lenient = [], []
    for obj in candidates:
        along = (position(obj, direction)[0] - position(anchor, direction)[0]) / unit
        aside = abs(position(obj, across)[0] - position(anchor, across)[0]) / unit
        strict += [obj] if along > 0.099 and along > aside - 0.001 else []
        lenient += [obj] if along > 0.02 else []
    return strict, lenient


LINK = re.compile(f'(?: (that is|and))? ({"|".join(words for words, _ in RELATIONS)}) ')


def answer(sentence, scene):
    """The object that a sentence with up to two relations can mean; AssertionError if it is ambiguous."""
    noun, relations = parse(sentence, scene)
    return related(noun, relations, scene) if relations else only(sentence, scene)


def is_nested(sentence):
    """Whether a sentence has two relations, or a place in the anchor of one."""
    _, *links = LINK.split(sentence)
    return len(links) > 3 or bool(links and cut(links[-1], EXTREMES))


def only(phrase, scene):
    """The object that an attribute or a place can mean."""
    ann_id = solve(phrase, scene)
    return next(obj for obj in scene['objects'] if obj['ann_id'] == ann_id)


def parse(sentence, scene):
    """The noun of a sentence, and the (direction, anchor) of the relations that describe it."""
    noun, *links = LINK.split(sentence)
    if not links:
        return noun, []
    directions = [dict(RELATIONS)[words] for words in links[1::3]]
    for anchor in links[2::3]:
        place = cut(anchor, EXTREMES)
        assert not place or place[2].strip(), 'a place after an anchor may describe the first noun'
    last = only(links[-1], scene)
    if len(links) == 3:
        return noun, [(directions[0], last)]
    that_is, _, middle, joint, _, _ = links
    if joint == 'and':
        return noun, [(directions[0], only(middle, scene)), (directions[1], last)]
    assert not that_is, 'a relative clause holds no other'
    relations = [(directions[0], related(middle, [(directions[1], last)], scene))]
    if not joint:  # the second relation may describe the first noun
        unit, objects = max(scene['height'], scene['width']), matching(noun, scene['objects'])
        strict, lenient = readings(objects, directions[1], last, unit)
        meant = [
            obj
            for obj in lenient
            if any(
                obj in readings([obj], directions[0], other, unit)[1] for other in matching(middle, scene['objects'])
            )
        ]
        assert meant == [related(noun, relations, scene)] and meant[0] in strict, 'both attachments have one answer'
    return noun, relations


def related(noun, relations, scene):
    """The only object of a noun to which all relations apply."""
    unit, anchors = max(scene['height'], scene['width']), [anchor for _, anchor in relations]
    candidates = [obj for obj in matching(noun, scene['objects']) if obj not in anchors]
    found = [readings(candidates, direction, anchor, unit) for direction, anchor in relations]
    strict, lenient = ([obj for obj in candidates if all(obj in each for each in kind)] for kind in zip(*found))
    assert strict == lenient, 'a strict and a lenient reading agree'
    assert len(strict) == 1, 'a noun means one object'
    for without in range(len(found)):
        others = [lenient for i, (_, lenient) in enumerate(found) if i != without]
        assert sum(all(obj in each for each in others) for obj in candidates) > 1, 'each relation is needed'
    return strict[0]


def needed(sentence, scene):
    """For every attribute, place and relation of the target, whether an object has all the others and not this one."""
    noun, relations = parse(sentence, scene)
    place, unit = cut(noun, EXTREMES), max(scene['height'], scene['width'])
    words = (f'{place[0]} {place[2]}' if place else noun).split()
    anchors = [anchor for _, anchor in relations]

    def fitting(words, relations=relations):
        found = [obj for obj in matching(' '.join(words), scene['objects']) if obj not in anchors]
        for direction, anchor in relations:
            found = readings(found, direction, anchor, unit)[1]
        return found

    def is_clear(group):
        try:
            return not place or most_extreme(group, place[1], unit) == most_extreme(fitting(words), place[1], unit)
        except AssertionError:
            return False

    said = [word for word in words if word in ATTRIBUTES]
    fewer = [fitting([other for other in words if other != word]) for word in said]
    attributes = [not is_clear(group) if place else len(group) > 1 for group in fewer]
    return (
        attributes
        + [True] * bool(place)
        + [len(fitting(words, [other for other in relations if other is not relation])) > 1 for relation in relations]
    )


def most_extreme(group, direction, unit, count=1):
    """The `count` objects that are furthest in a direction, or the biggest or smallest."""
    assert len(group) > count, 'the superlative is needed'
    if direction in ('big', 'small'):
        ordered = sorted(group, key=lambda obj: obj['extent'], reverse=direction == 'big')
        sizes = sorted((ordered[count - 1]['extent'], ordered[count]['extent']))
        assert sizes[1] > 1.38 * sizes[0], 'the runner-up is of another size'
        return ordered[:count]
    ordered = sorted(group, key=lambda obj: position(obj, direction)[0], reverse=True)
    margin = position(ordered[count - 1], direction)[0] - position(ordered[count], direction)[0]
    assert margin > 0.059 * unit, 'a clear margin'
    by_edge = sorted(group, key=lambda obj: position(obj, direction)[1], reverse=True)
    assert all(obj in ordered[:count] for obj in by_edge[:count]), 'centers and edges agree'
    return ordered[:count]


def answers(sentence, scene):
    """The ann_ids of all objects that a sentence means, possibly none; AssertionError if it is ambiguous."""
    parts = re.split(r' and (?=the |all )', sentence)
    if len(parts) == 1:
        return {obj['ann_id'] for obj in meant(sentence, scene)}
    found = [answers(part, scene) for part in parts]
    assert all(found) or not any(found), 'either all parts are there or none'
    assert len(set.union(*found)) == sum(map(len, found)), 'no part says what another says'
    return set.union(*found)


def meant(sentence, scene):
    words = sentence.split()
    several = any(word in SINGULAR or word in ('every', 'each') for word in words)
    numbers = {NUMBERS[word] for word in words if word in NUMBERS} - {None}
    plain = ' '.join(SINGULAR.get(word, word) for word in words if word not in NUMBERS)
    found = look(plain, scene, count=2 if several else 1)
    assert several or len(found) < 2, 'a singular means one object'
    assert not several or len(found) != 1, 'a plural means several'
    assert not found or numbers <= {len(found)}, 'there are as many as it says'
    return found


def look(sentence, scene, count):
    objects, unit = scene['objects'], max(scene['height'], scene['width'])
    relation, extreme = cut(sentence, RELATIONS), cut(sentence, EXTREMES)
    if relation:
        target, direction, anchor = relation
        anchors = clearly_matching(anchor, objects)
        assert len(anchors) < 2, 'the anchor is one object'
        candidates = [obj for obj in clearly_matching(target, objects) if obj not in anchors]
        found = on_side(candidates, direction, anchors[0], unit) if anchors else []
        assert not candidates or not anchors or len(candidates) > max(len(found), 1), 'the relation is needed'
        return found
    if extreme:
        before, direction, after = extreme
        group = clearly_matching(f'{before} {after}', objects)
        elsewhere = any(f' {words} ' in f' {sentence} ' for words in PLACES) and all(
            share_from(obj, direction, scene) > 0.59 for obj in group
        )
        return [] if elsewhere else most_extreme(group, direction, unit, count) if group else []
    return clearly_matching(sentence, objects)


def clearly_matching(phrase, objects):
    """As `matching`, but raise an error if an object only fails to match because it is of medium size."""
    found = matching(phrase, objects)
    unsized = ' '.join(word for word in phrase.split() if ATTRIBUTES.get(word, ('',))[0] != 'size')
    assert (
        found
        or unsized.split() == phrase.split()
        or not any(obj['size'] == 'medium' for obj in matching(unsized, objects))
    ), 'a size is clear'
    return found


def share_from(obj, direction, scene):
    """How far an object is from a side of the picture: 0 at that side, 1 at the other."""
    (x, y), width, height = obj['centre'], scene['width'], scene['height']
    return dict(left=x / width, right=1 - x / width, up=y / height, down=1 - y / height)[direction]


def mirrored(scene):
    width = scene['width']
    objects = [
        dict(
            obj,
            centre=(width - obj['centre'][0], obj['centre'][1]),
            box=(width - obj['box'][2], obj['box'][1], width - obj['box'][0], obj['box'][3]),
        )
        for obj in scene['objects']
    ]
    return dict(scene, objects=objects)


SWAPPED = dict(left='right', right='left', leftmost='rightmost', rightmost='leftmost')
