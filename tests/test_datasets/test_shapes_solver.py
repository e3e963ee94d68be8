"""The solver that checks the generated sentences."""

import pytest
from shapes_solver import answer, answers, needed


def scene_of(*looks, places=None):
    """Objects in a row, 20 pixels apart, or at places; their ids count from 1."""
    places = places or [(20 * i, 50) for i in range(1, len(looks) + 1)]
    objects = [
        dict(
            ann_id=i,
            shape=shape,
            colour=colour,
            size=size,
            texture='plain',
            extent=20,
            centre=(x, y),
            box=(x - 9, y - 9, x + 9, y + 9),
        )
        for i, ((size, colour, shape), (x, y)) in enumerate(zip(looks, places), 1)
    ]
    return dict(height=200, width=200, objects=objects)


ROW = scene_of(
    ('small', 'red', 'star'),
    ('small', 'red', 'star'),
    ('small', 'blue', 'circle'),
    ('medium', 'red', 'square'),
    ('small', 'yellow', 'star'),
    ('small', 'purple', 'star'),
)


@pytest.mark.parametrize(
    'text, ann_ids',
    [
        ('all red stars', {1, 2}),
        ('both stars that are red', {1, 2}),
        ('the two leftmost stars', {1, 2}),
        ('every star right of the blue circle', {5, 6}),
        ('the red stars and the circle', {1, 2, 3}),
        ('the yellow star', {5}),
        ('the blue star', set()),
        ('the blue star and the green circle', set()),
        ('all blue stars', set()),
        ('the star left of the green square', set()),
        ('the big red star', set()),
        ('the red star on the far right', set()),
    ],
)
def test_solver_finds_the_answers(text, ann_ids):
    assert answers(text, ROW) == ann_ids


@pytest.mark.parametrize(
    'text',
    [
        'the red star',  # two of them
        'all yellow stars',  # one
        'the three red stars',  # two
        'the large square',  # a medium one
        'the two rightmost yellow stars',  # one
        'the stars left of the blue circle and the yellow circle',  # the second is not there
        'the star left of the red one',  # which?
        'the stars left of the blue circle and the red stars',  # the same
    ],
)
def test_solver_rejects_ambiguous_sentences(text):
    with pytest.raises(AssertionError):
        answers(text, ROW)


FIELD = scene_of(
    ('small', 'red', 'circle'),
    ('small', 'red', 'circle'),
    ('small', 'red', 'star'),
    ('small', 'red', 'square'),
    ('small', 'red', 'square'),
    ('small', 'blue', 'star'),
    ('small', 'green', 'cross'),
    places=((100, 60), (170, 180), (100, 110), (60, 40), (130, 180), (150, 40), (50, 150)),
)


@pytest.mark.parametrize(
    'text, ann_id, facts',
    [
        ('the square left of the circle that is above the red star', 4, [True, True]),
        ('the square left of the circle above the red star', 4, [True, True]),
        ('the square below the circle that is above the red star', 5, [True, True]),
        ('the square below the highest circle', 5, [True, True]),
        ('the thing above the red star and left of the highest circle', 4, [True, True]),
        ('the thing that is above the red star and left of the highest circle', 4, [True, True]),
        ('the red square below the highest circle', 5, [False, True, True]),
        ('the rightmost red circle', 2, [False, False, True]),
        ('the red star', 3, [True, True]),
        ('the green cross', 7, [False, False]),
    ],
)
def test_solver_finds_the_answer_to_two_relations_and_the_facts_that_it_needs(text, ann_id, facts):
    """Facts of the target: its attributes as they are said, then its place and relations."""
    assert answer(text, FIELD)['ann_id'] == ann_id
    assert needed(text, FIELD) == facts


@pytest.mark.parametrize(
    'text',
    [
        'the square below the circle above the red star',  # the circle is above the star, the square is not
        'the square left of the circle that is below the highest thing',  # two circles
        'the square left of the circle that is right of the red star',  # two squares
        'the square below the red star and left of the lowest circle',  # below the star is one square
        'the square below the circle at the top',  # is the square at the top?
        'the square that is below the circle that is above the red star',
    ],
)
def test_solver_rejects_ambiguous_and_needless_relations(text):
    with pytest.raises(AssertionError):
        answer(text, FIELD)
