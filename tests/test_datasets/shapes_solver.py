"""A solver of `shapes` sentences: it knows English and the symbolic scene, and nothing of the grammar behind them."""

ATTRIBUTES = {
    **{word: ('shape', word) for word in 'circle square triangle star cross'.split()},
    **{word: ('colour', word) for word in 'red green blue yellow purple orange white black'.split()},
    **{word: ('texture', word) for word in 'plain striped dotted'.split()},
    'stripes': ('texture', 'striped'), 'dots': ('texture', 'dotted'),
    'small': ('size', 'small'), 'little': ('size', 'small'), 'large': ('size', 'large'), 'big': ('size', 'large'),
}  # yapf: disable
FILLERS = set('the a an thing one object shape that is and with'.split())
RELATIONS = [('to the left of', 'left'), ('on the left of', 'left'), ('left of', 'left'), ('to the right of', 'right'),
             ('on the right of', 'right'), ('right of', 'right'), ('above', 'up'), ('higher than', 'up'),
             ('below', 'down'), ('under', 'down'), ('beneath', 'down'), ('lower than', 'down')]
EXTREMES = [('furthest to the left', 'left'), ('on the far left', 'left'), ('far left', 'left'), ('leftmost', 'left'),
            ('furthest to the right', 'right'), ('on the far right', 'right'), ('far right', 'right'),
            ('rightmost', 'right'), ('at the very top', 'up'), ('at the top', 'up'), ('topmost', 'up'), ('top', 'up'),
            ('highest', 'up'), ('at the very bottom', 'down'), ('at the bottom', 'down'), ('bottommost', 'down'),
            ('bottom', 'down'), ('lowest', 'down'), ('biggest', 'big'), ('largest', 'big'), ('smallest', 'small')]


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
    """How far an object lies in a direction: (by its centre, by the edge of its box)."""
    (x, y), (x0, y0, x1, y1) = obj['centre'], obj['box']
    return dict(left=(-x, -x0), right=(x, x1), up=(-y, -y0), down=(y, y1))[direction]


def solve(sentence, scene):
    """The ann_id of the only object that a sentence can mean; AssertionError where it is not clear."""
    objects, unit = scene['objects'], max(scene['height'], scene['width'])
    relation, extreme = cut(sentence, RELATIONS), cut(sentence, EXTREMES)
    if relation:
        return solve_relation(*relation, objects, unit)
    if extreme:
        before, direction, after = extreme
        return solve_extreme(matching(f'{before} {after}', objects), direction, unit)
    found = matching(sentence, objects)
    assert len(found) == 1, 'an attribute sentence fits one object'
    return found[0]['ann_id']


def solve_relation(target, direction, anchor, objects, unit):
    anchors = matching(anchor, objects)
    assert len(anchors) == 1, 'the anchor is one object'
    candidates = [obj for obj in matching(target, objects) if obj is not anchors[0]]
    assert len(candidates) > 1, 'the relation is needed'
    across = dict(left='up', right='up', up='left', down='left')[direction]
    strict, lenient = [], []
    for obj in candidates:
        along = (position(obj, direction)[0] - position(anchors[0], direction)[0]) / unit
        aside = abs(position(obj, across)[0] - position(anchors[0], across)[0]) / unit
        strict += [obj] if along > 0.099 and along > aside - 0.001 else []
        lenient += [obj] if along > 0.02 else []
    assert len(strict) == 1 and strict == lenient, 'a strict and a lenient reading agree'
    return strict[0]['ann_id']


def solve_extreme(group, direction, unit):
    assert len(group) > 1, 'the superlative is needed'
    if direction in ('big', 'small'):
        ordered = sorted(group, key=lambda obj: obj['extent'], reverse=direction == 'big')
        sizes = sorted((ordered[0]['extent'], ordered[1]['extent']))
        assert sizes[1] > 1.38 * sizes[0], 'the runner-up is of another size'
        return ordered[0]['ann_id']
    ordered = sorted(group, key=lambda obj: position(obj, direction)[0], reverse=True)
    assert position(ordered[0], direction)[0] - position(ordered[1], direction)[0] > 0.059 * unit, 'a clear margin'
    by_edge = max(group, key=lambda obj: position(obj, direction)[1])
    assert by_edge is ordered[0], 'centres and edges agree'
    return ordered[0]['ann_id']


def mirrored(scene):
    width = scene['width']
    objects = [
        dict(obj, centre=(width - obj['centre'][0], obj['centre'][1]),
             box=(width - obj['box'][2], obj['box'][1], width - obj['box'][0], obj['box'][3]))
        for obj in scene['objects']
    ]
    return dict(scene, objects=objects)


SWAPPED = dict(left='right', right='left', leftmost='rightmost', rightmost='leftmost')
