"""The solver that checks the generated sentences."""

import pytest
from shapes_solver import answers


def scene_of(*looks):
    """Objects in a row, 20 pixels apart; their ids count from 1."""
    objects = [
        dict(
            ann_id=i,
            shape=shape,
            colour=colour,
            size=size,
            texture='plain',
            extent=20,
            centre=(20 * i, 50),
            box=(20 * i - 9, 41, 20 * i + 9, 59),
        )
        for i, (size, colour, shape) in enumerate(looks, 1)
    ]
    return dict(height=100, width=200, objects=objects)


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
