"""Flips of pictures and of the words left and right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_sam.datasets.transforms import AddTextEncoderImage, ReferringFlip, swap_left_right
from dit_sam.errors import InputError

BOX = np.zeros((4, 6), np.uint8)
BOX[1:3, 1:4] = 1  # rows 1 and 2, columns 1 to 3


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    'text, swapped',
    [
        ('left', 'right'),
        ('the man on the right', 'the man on the left'),
        ('leftmost cup, not the rightmost', 'rightmost cup, not the leftmost'),
        ('Left LEFT Leftmost LEFTMOST', 'Right RIGHT Rightmost RIGHTMOST'),
        ('left-hand side; her right.', 'right-hand side; her left.'),
        ("left's", "right's"),
        ('right left right', 'left right left'),
        ('lefthand leftside, the leftest', 'righthand rightside, the rightest'),
        ('lefty or leftie, left-most, lefts', 'righty or rightie, right-most, rights'),
        ('leftish, left-handed, lefthander, leftward', 'rightish, right-handed, righthander, rightward'),
        ("Topleft TopLeft farright, the bottomleft's", "Topright TopRight farleft, the bottomright's"),
        (
            'leftcorner, leftbottom, leftfront, leftback, leftmiddle',
            'rightcorner, rightbottom, rightfront, rightback, rightmiddle',
        ),
        ('righttop, rightcenter, rightupper, rightone, rightguy', 'lefttop, leftcenter, leftupper, leftone, leftguy'),
        ('left_hand, top_left, _left_ and left_most', 'right_hand, top_right, _right_ and right_most'),
        ('2left, 2ndfromleft, ontheleft, theleft', '2right, 2ndfromright, ontheright, theright'),
        ('lowleft, lefthandside', 'lowright, righthandside'),
        ("9 o'clock donut, 1 oclock slice, Five o'clock", "3 o'clock donut, 11 oclock slice, Seven o'clock"),
        *[
            (text, text)
            for text in (
                'bright light, upright copyright, alright',
                'leftovers, rightly, righteous, outright',
                "12 o'clock, six o'clock, 13 o'clock, 9 clocks",
            )
        ],
        ('', ''),
    ],
)
def test_swap_left_right(text, swapped):
    assert swap_left_right(text) == swapped
    assert swap_left_right(swapped) == text


@given(
    st.lists(
        st.sampled_from(
            [
                'left',
                'right',
                'most',
                'side',
                'ie',
                's',
                'top',
                'guy',
                '-',
                '_',
                ' ',
                ', ',
                "'s",
                'b',
                'over',
                'ñ',
                '左',
            ]
        )
    ).map(''.join)
)
def test_swapping_twice_changes_nothing(text):
    assert swap_left_right(swap_left_right(text)) == text


@given(st.text())
def test_swapping_twice_keeps_the_words_of_any_text(text):
    assert swap_left_right(swap_left_right(text)).lower() == text.lower()


def test_flip():
    img, mask = picture(4, 6), BOX.copy()
    results = ReferringFlip(prob=1)(dict(img=img, gt_seg_map=mask, text='left of the bright one'))
    np.testing.assert_array_equal(results['img'], img[:, ::-1])
    np.testing.assert_array_equal(results['gt_seg_map'], mask[:, ::-1])
    assert results['text'] == 'right of the bright one'
    assert results['flip'] and results['flip_direction'] == 'horizontal'


def test_flip_mirrors_the_image_of_the_text_encoder():
    add, flip, img = AddTextEncoderImage(size=8), ReferringFlip(prob=1), picture(4, 6)
    first = flip(add(dict(img=img, text='')))['text_encoder_image']
    np.testing.assert_allclose(first, add(flip(dict(img=img, text='')))['text_encoder_image'], atol=1e-5)


def test_flip_moves_points_and_box():
    """The pixel 1 of 6 becomes the pixel 4; the box over columns 1 to 3 one over columns 2 to 4."""
    places = dict(points=np.float32([[1, 2], [-0.25, -0.25]]), box=np.float32([1, 1, 4, 3]))
    results = ReferringFlip(prob=1)(dict(img=picture(4, 6), text='', **places))
    assert results['points'].tolist() == [[4, 2], [5.25, -0.25]] and results['box'].tolist() == [2, 1, 5, 3]
    assert results['points'].dtype == results['box'].dtype == np.float32


@pytest.mark.parametrize(
    'item, message',
    [
        (dict(text='left', gt_masks=[1]), 'a.png has gt_masks, which would not be flipped'),
        (dict(text=['left', 'right']), 'a.png has no sentence as its text'),
        (dict(), 'a.png has no sentence as its text'),
    ],
)
def test_what_would_be_flipped_in_part_is_refused(item, message):
    with pytest.raises(InputError, match=message):
        ReferringFlip(prob=1)(dict(item, img=picture(4, 6), img_path='a.png'))


def test_no_flip():
    img = picture(4, 6)
    results = ReferringFlip(prob=0)(dict(img=img, gt_seg_map=BOX, text='left'))
    assert results['img'] is img and results['text'] == 'left' and not results['flip']


def test_flip_probability():
    np.random.seed(0)
    flip = ReferringFlip(prob=0.5)
    flips = [flip(dict(img=picture(2, 2), text=''))['flip'] for _ in range(400)]
    assert abs(sum(flips) - 200) < 50  # 5 standard deviations of 10
