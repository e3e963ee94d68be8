import colorsys

import numpy as np
import pytest

from dit_sam.visualization import draw_masks
from dit_sam.visualization.overlay import PALETTE

RED, WHITE = (200, 0, 0), [255, 255, 255]


def halves(height: int = 100, width: int = 600) -> list:
    """Masks of the left and of the right half."""
    left = np.zeros((height, width), bool)
    left[:, : width // 2] = True
    return [left, ~left]


def gray(height: int = 100, width: int = 600) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def count(picture: np.ndarray, color) -> int:
    return int((picture == np.array(color)).all(axis=-1).sum())


def hue(color) -> float:
    """Degrees on the color circle."""
    return colorsys.rgb_to_hsv(*color)[0] * 360


def test_a_mask_is_tinted_and_outlined_and_nothing_else_changes():
    image = gray()
    drawn = draw_masks(image, halves()[:1], ['left'], colors=[RED], opacity=0.25)
    assert drawn.shape[1] == 600 and drawn.dtype == np.uint8
    # 100 * 0.75 + 200 * 0.25 = 125, 100 * 0.75 = 75
    assert drawn[50, 100].tolist() == drawn[50, 299].tolist() == [125, 75, 75]
    # Outside the edge: white halo, two pixels of the color, halo.
    assert drawn[50, 300:304].tolist() == [WHITE, list(RED), list(RED), WHITE]
    np.testing.assert_array_equal(drawn[:100, 304:], image[:, 304:])
    np.testing.assert_array_equal(image, gray())


@pytest.mark.parametrize('color', [(214, 32, 38), (38, 156, 58), (36, 76, 222), (246, 222, 38), (122, 42, 172)])
def test_an_object_keeps_its_color(color):
    image = np.full((100, 600, 3), color, np.uint8)
    for paint in PALETTE:
        # Also if three sentences mean the object.
        for number in (1, 3):
            drawn = draw_masks(image, halves()[:1] * number, ['a'] * number, colors=[paint])[50, 100]
            turned = (hue(drawn / 255) - hue(image[50, 100] / 255) + 180) % 360 - 180
            assert abs(turned) < 25  # one color name to the next: about 60
            assert abs(drawn.astype(int) - color).max() <= 0.15 * 255 + 2


def test_outlines_are_smooth_at_the_resolution_of_the_picture():
    y, x = np.mgrid[:60, :60]
    inside = (x - 30) ** 2 + (y - 30) ** 2 < 20**2
    drawn = draw_masks(np.zeros((60, 60, 3), np.uint8), [inside], ['a'], colors=[RED], opacity=0)[:480]
    # The circle in the picture, which is enlarged 8 times, has the center (30 + 0.5) * 8 - 0.5 and the radius 160.
    y, x = np.mgrid[:480, :480]
    radius = np.hypot(x - 243.5, y - 243.5)
    outline = drawn.any(axis=-1)
    assert radius[outline].min() > 160 - 8 and radius[outline].max() < 160 + 8
    assert np.ptp(radius[(drawn == RED).all(axis=-1)]) < 8  # steps alone would be 8 high
    assert len(np.unique(drawn[..., 1])) > 50  # shades between black and white: anti-aliased


def test_one_pixel_stays_visible_and_one_picture_is_always_the_same():
    for side in (480, 2000):
        mask = np.zeros((side, side), bool)
        mask[100, 50] = True
        first, second = (draw_masks(gray(side, side), [mask], ['a'], colors=[RED]) for _ in range(2))
        assert count(first[90:111, 40:61], RED) >= 8 and count(first[:side], RED) == count(first[90:111, 40:61], RED)
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize('height, width', [(20, 30), (100, 600)])
def test_a_mask_of_the_whole_picture_is_tinted_and_framed(height, width):
    drawn = draw_masks(gray(height, width), [np.ones((height, width), bool)], ['a'], colors=[RED], opacity=0.25)
    assert (drawn[10:90, 10:470] == (125, 75, 75)).all()
    assert count(drawn[0:6, 10:470], RED) >= 460 and count(drawn[10:90, 0:6], RED) >= 80


def test_overlapping_masks_are_distinguishable():
    left, _ = halves()
    small = np.zeros_like(left)
    small[20:80, 20:80] = True
    row = draw_masks(gray(), [left, left, small], ['a', 'b', 'c'])[50]
    assert [count(row, color) > 0 for color in PALETTE[:3]] == [True] * 3


def test_points_and_boxes_are_drawn_in_the_color_of_their_mask():
    masks, points = [np.zeros((100, 600), bool)] * 2, [np.array([[100, 50, 1], [200, 50, 0]]), None]
    drawn = draw_masks(
        gray(), masks, ['a', 'b'], colors=[RED, (0, 0, 200)], points=points, boxes=[None, [300, 20, 400, 80]]
    )
    # A disc of radius 4 in a white one of radius 6, and a ring.
    assert drawn[50, 97:104].tolist() == [list(RED)] * 7 and min(drawn[50, 105]) > 190
    assert drawn[50, 200].tolist() == WHITE and drawn[50, 204].tolist() == list(RED)
    # The box runs along the edges of the pixels 300 and 399.
    for x in (299, 300, 399, 400):
        assert drawn[50, x, 2] > drawn[50, x, 0]
    assert drawn[50, 350].tolist() == drawn[50, 297].tolist() == [100] * 3
    # Enlarged 6 times, the center of pixel 45 is at (45 + 0.5) * 6 - 0.5 = 272.5, between two pixels.
    drawn = draw_masks(gray(60, 90), [np.zeros((60, 90), bool)], ['a'], colors=[RED], points=[np.array([[45, 30, 1]])])
    mirrored = drawn[:360, 266:280][:, ::-1].astype(int)
    np.testing.assert_allclose(drawn[:360, 266:280], mirrored, atol=8)
    assert drawn[182, 272].tolist() == list(RED)


def test_the_legend_has_a_swatch_and_the_text_of_each_sentence():
    def legend(*sentences, **kwargs):
        return draw_masks(gray(), halves()[: len(sentences)], sentences, **kwargs)[100:]

    one, two = legend('the red star'), legend('the red star', 'circle')
    assert count(one, PALETTE[0]) == count(two, PALETTE[0]) == count(two, PALETTE[1]) > 100
    assert count(one, PALETTE[1]) == 0 and len(two) > len(one)
    # The same first line; only the text differs between sentences, and the score is part of it.
    np.testing.assert_array_equal(one, two[: len(one)])
    for other in (legend('the red stat'), legend('the red star', scores=[0.5]), legend('the красный star')):
        assert (one != other).any() and count(other, PALETTE[0]) == count(one, PALETTE[0])
    np.testing.assert_array_equal(one, legend('the\n red\tstar '))


def test_an_empty_mask_is_captioned():
    nothing = [np.zeros((100, 600), bool)]
    drawn = draw_masks(gray(), nothing, ['left'])
    np.testing.assert_array_equal(drawn[:100], gray())
    np.testing.assert_array_equal(drawn[100:], draw_masks(gray(), halves()[:1], ['left: nothing found'])[100:])


@pytest.mark.parametrize(
    'height, width, drawn_height, drawn_width',
    [
        (120, 160, 360, 480),  # 480 / 160 = 3 times
        (100, 200, 300, 600),  # 480 / 200 = 2.4, up to 3 times
        (480, 40, 480, 240),  # as high as it must be, with margins to half of 480
        (700, 500, 700, 500),
    ],
)
def test_small_and_narrow_pictures_get_room_for_text(height, width, drawn_height, drawn_width):
    drawn = draw_masks(gray(height, width), halves(height, width), ['a', 'b'], opacity=0)
    assert drawn.shape[1] == drawn_width
    in_the_middle = (drawn[:, drawn_width // 2 - 10] == 100).all(axis=-1)
    # Without the outlines at the border of the picture.
    assert in_the_middle[6 : drawn_height - 6].all() and not in_the_middle[drawn_height:].any()


def test_long_sentences_are_wrapped_within_the_picture():
    short = draw_masks(gray(), halves()[:1], ['a'])
    for text in ('word ' * 100, 'x' * 500):
        drawn = draw_masks(gray(), halves()[:1], [text])
        assert drawn.shape[1] == 600 and len(drawn) > len(short) + 100
        # The last column is margin, so that nothing was cut.
        assert (drawn[100:, -1] == 255).all()


def test_colors_repeat():
    number = len(PALETTE) + 1
    drawn = draw_masks(gray(), halves()[:1] * number, ['a'] * number)
    assert count(drawn[100:], PALETTE[0]) == 2 * count(drawn[100:], PALETTE[1])


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(image=gray()[..., 0]), r'RGB image \(H, W, 3\) of uint8, got \(100, 600\)'),
        (dict(image=gray() / 255), 'of float64'),
        (dict(sentences=['a']), '2 masks, 1 sentences and no scores'),
        (dict(scores=[1]), '2 masks, 2 sentences and 1 scores'),
        (dict(masks=halves(100, 602)), r'mask 0 has shape \(100, 602\), the image \(100, 600\)'),
    ],
)
def test_inconsistent_arguments_are_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        draw_masks(**{**dict(image=gray(), masks=halves(), sentences=['a', 'b']), **changes})


def test_a_missing_font_is_named():
    with pytest.raises(FileNotFoundError, match='font none.ttf not found'):
        draw_masks(gray(), halves(), ['a', 'b'], font='none.ttf')
