"""Prompts of place drawn from masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dit_sam.datasets.transforms import SamplePrompts

MASK = np.zeros((20, 30), np.uint8)
MASK[4:11, 8:19] = 1  # rows 4 to 10, columns 8 to 18: the middle is (13, 7)


def item(mask: np.ndarray = MASK, size: tuple[int, int] | None = None) -> dict:
    return dict(img=np.zeros((*(size or mask.shape), 3), np.uint8), gt_seg_map=mask)


def test_the_exact_box_and_the_deepest_point():
    box = SamplePrompts(box_prob=1, random=False)(item())
    assert box['box'].tolist() == [8, 4, 19, 11] and 'points' not in box
    point = SamplePrompts(box_prob=0, random=False)(item())
    # Four pixels to the upper and lower edge; of the pixels that are as deep the first is taken.
    ((x, y),) = point['points']
    assert y == 7 and 11 <= x <= 15
    assert point['point_labels'].tolist() == [1] and 'box' not in point
    # The edge of the picture is an edge of the mask.
    filled = SamplePrompts(box_prob=0, random=False)(item(np.ones((5, 5), np.uint8)))
    assert filled['points'].tolist() == [[2, 2]]


def test_prompts_are_in_pixels_of_the_image():
    """An image twice as wide as the mask and three times as high: the row 7 covers the rows 21, 22 and 23."""
    assert SamplePrompts(box_prob=1, random=False)(item(size=(60, 60)))['box'].tolist() == [16, 12, 38, 33]
    x, y = SamplePrompts(box_prob=0, random=False)(item(size=(60, 60)))['points'][0]
    assert y == 22 and 22.5 <= x <= 30.5


@given(st.integers(0, 2**32 - 1))
def test_drawn_points_lie_in_the_mask_and_drawn_boxes_in_the_picture(seed):
    np.random.seed(seed)
    ((x, y),) = SamplePrompts(box_prob=0)(item())['points'].astype(int)
    assert MASK[y, x] == 1
    x0, y0, x1, y1 = SamplePrompts(box_prob=1, noise=2.0)(item())['box']
    assert 0 <= x0 < x1 <= 30 and 0 <= y0 < y1 <= 20


def test_points_are_drawn_from_the_whole_mask():
    """77 pixels around (13, 7); each of 500 points misses a given one with 76/77, so all but about 0.1 are drawn."""
    np.random.seed(0)
    drawn = np.concatenate([SamplePrompts(box_prob=0)(item())['points'] for _ in range(500)])
    assert len(np.unique(drawn, axis=0)) > 70
    np.testing.assert_allclose(drawn.mean(0), [13, 7], atol=0.6)


def test_noise_moves_no_corner_by_more_than_20_pixels():
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 50:150] = 1
    np.random.seed(0)
    drawn = np.stack([SamplePrompts(box_prob=1, noise=10)(item(mask))['box'] for _ in range(20)])
    assert np.abs(drawn - [50, 50, 150, 150]).max() == 20


def test_noise_is_a_share_of_the_sides():
    """Sides of 11 and 7 pixels, noise of a tenth: standard deviations of 1.1 and 0.7."""
    np.random.seed(0)
    drawn = np.stack([SamplePrompts(box_prob=1, noise=0.1)(item())['box'] for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(0), [8, 4, 19, 11], atol=0.1)
    np.testing.assert_allclose(drawn.std(0), [1.1, 0.7, 1.1, 0.7], rtol=0.1)


@pytest.mark.parametrize('prob, box_prob, boxes, points', [(1, 0.25, 0.25, 0.75), (0.5, 0.5, 0.25, 0.25)])
def test_shares(prob, box_prob, boxes, points):
    np.random.seed(0)
    drawn = [SamplePrompts(prob=prob, box_prob=box_prob)(item()) for _ in range(2000)]
    assert np.mean(['box' in each for each in drawn]) == pytest.approx(boxes, abs=0.03)
    assert np.mean(['points' in each for each in drawn]) == pytest.approx(points, abs=0.03)


def test_an_empty_mask_gets_no_prompt():
    drawn = SamplePrompts()(item(np.zeros_like(MASK)))
    assert set(drawn) == {'img', 'gt_seg_map'}
