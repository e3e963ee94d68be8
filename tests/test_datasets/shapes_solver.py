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
    across = dict(left='up', right='up', up='left', down='left')[direction]
    strict, lenient = [], []
    for obj in candidates:
        along = (position(obj, direction)[0] - position(anchor, direction)[0]) / unit
        aside = abs(position(obj, across)[0] - position(anchor, across)[0]) / unit
        strict += [obj] if along > 0.099 and along > aside - 0.001 else []
        lenient += [obj] if along > 0.02 else []
    assert strict == lenient, 'a strict and a lenient reading agree'
    return strict


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
