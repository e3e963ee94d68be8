import numpy as np
import pytest

from dit_sam.visualization import draw_masks
from dit_sam.visualization.overlay import PALETTE

RED = (200, 0, 0)


def halves(height: int = 100, width: int = 600) -> list:
    """Masks of the left and of the right half."""
    left = np.zeros((height, width), bool)
    left[:, : width // 2] = True
    return [left, ~left]


def grey(height: int = 100, width: int = 600) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def count(picture: np.ndarray, color) -> int:
    return int((picture == np.array(color)).all(axis=-1).sum())


def test_a_mask_is_blended_inside_with_a_contour_and_nothing_changes_outside():
    image = grey()
    drawn = draw_masks(image, halves()[:1], ['left'], colors=[RED], opacity=0.25)
    assert drawn.shape[1] == 600 and drawn.dtype == np.uint8
    # 100 * 0.75 + 200 * 0.25 = 125, 100 * 0.75 = 75
    assert drawn[50, 100].tolist() == [125, 75, 75]
    assert drawn[50, 299].tolist() == list(RED)
    assert drawn[50, 300].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(drawn[:100, 310:], image[:, 310:])
    np.testing.assert_array_equal(image, grey())


def test_the_legend_has_a_swatch_and_the_text_of_each_sentence():
    def legend(*sentences, **kwargs):
        return draw_masks(grey(), halves()[: len(sentences)], sentences, **kwargs)[100:]

    one, two = legend('the red star'), legend('the red star', 'circle')
    assert count(one, PALETTE[0]) == count(two, PALETTE[0]) == count(two, PALETTE[1]) > 100
    assert count(one, PALETTE[1]) == 0 and len(two) > len(one)
    # The same first line; only the text differs between sentences, and the score is part of it.
    np.testing.assert_array_equal(one, two[: len(one)])
    for other in (legend('the red stat'), legend('the red star', scores=[0.5]), legend('the красный star')):
        assert (one != other).any() and count(other, PALETTE[0]) == count(one, PALETTE[0])
    np.testing.assert_array_equal(one, legend('the\n red\tstar '))


def test_an_empty_mask_is_said_to_be_one():
    nothing = [np.zeros((100, 600), bool)]
    drawn = draw_masks(grey(), nothing, ['left'])
    np.testing.assert_array_equal(drawn[:100], grey())
    np.testing.assert_array_equal(drawn[100:], draw_masks(grey(), halves()[:1], ['left: nothing found'])[100:])


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
    drawn = draw_masks(grey(height, width), halves(height, width), ['a', 'b'], opacity=0)
    assert drawn.shape[1] == drawn_width
    in_the_middle = (drawn[:, drawn_width // 2 - 10] == 100).all(axis=-1)
    assert in_the_middle[:drawn_height].all() and not in_the_middle[drawn_height:].any()


def test_long_sentences_are_wrapped_within_the_picture():
    short = draw_masks(grey(), halves()[:1], ['a'])
    for text in ('word ' * 100, 'x' * 500):
        drawn = draw_masks(grey(), halves()[:1], [text])
        assert drawn.shape[1] == 600 and len(drawn) > len(short) + 100
        # The last column is margin, so that nothing was cut.
        assert (drawn[100:, -1] == 255).all()


def test_colours_come_round_again():
    number = len(PALETTE) + 1
    drawn = draw_masks(grey(), halves()[:1] * number, ['a'] * number)
    assert count(drawn[100:], PALETTE[0]) == 2 * count(drawn[100:], PALETTE[1])


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(image=grey()[..., 0]), r'RGB image \(H, W, 3\) of uint8, got \(100, 600\)'),
        (dict(image=grey() / 255), 'of float64'),
        (dict(sentences=['a']), '2 masks, 1 sentences and no scores'),
        (dict(scores=[1]), '2 masks, 2 sentences and 1 scores'),
        (dict(masks=halves(100, 602)), r'mask 0 has shape \(100, 602\), the image \(100, 600\)'),
    ],
)
def test_what_does_not_fit_is_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        draw_masks(**{**dict(image=grey(), masks=halves(), sentences=['a', 'b']), **changes})


def test_a_missing_font_is_named():
    with pytest.raises(FileNotFoundError, match='font none.ttf not found'):
        draw_masks(grey(), halves(), ['a', 'b'], font='none.ttf')
