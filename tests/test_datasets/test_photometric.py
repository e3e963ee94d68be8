"""Color jitter and blur."""

import cv2
import numpy as np
import pytest
from mmcv.image import adjust_color
from PIL import Image, ImageEnhance

from dit_sam.datasets.transforms import RandomGaussianBlur, ReferringColorJitter
from dit_sam.datasets.transforms.photometric import adjust_brightness, adjust_contrast


@pytest.mark.parametrize('factor', [0.6, 0.9, 1.0, 1.4])
@pytest.mark.parametrize(
    'adjust, reference',
    [
        (adjust_brightness, ImageEnhance.Brightness),
        (adjust_contrast, ImageEnhance.Contrast),
        (adjust_color, ImageEnhance.Color),
    ],
)
def test_color_against_pillow(adjust, reference, factor):
    """torchvision's ColorJitter calls these for PIL images. Pillow truncates where we round."""
    img = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    expected = np.asarray(reference(Image.fromarray(img[..., ::-1])).enhance(factor))[..., ::-1]
    assert np.abs(adjust(img, factor).astype(int) - expected).max() <= 1


def test_color_jitter_probability_range_and_seed():
    gray = np.full((2, 2, 3), 100, np.uint8)  # contrast and saturation leave an even gray as it is
    jitter = ReferringColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, prob=0.8)

    def draw(seed):
        np.random.seed(seed)
        return [int(jitter(dict(img=gray))['img'][0, 0, 0]) for _ in range(400)]

    values = draw(0)
    assert values == draw(0) != draw(1)
    assert 60 <= min(values) < 65 and 135 < max(values) <= 140
    assert 280 < sum(value != 100 for value in values) < 360  # 400 * 0.8 = 320, standard deviation 8
    assert repr(ReferringColorJitter()) == repr(jitter)  # the paper's


def test_each_strength_is_that_of_its_change():
    """Of blue 90, green 100 and red 110, saturation moves the colors away from gray or to it, and the gray stays."""
    np.random.seed(0)
    jitter = ReferringColorJitter(brightness=0, contrast=0, saturation=1, prob=1)
    color = np.full((2, 2, 3), (90, 100, 110), np.uint8)
    drawn = [jitter(dict(img=color))['img'] for _ in range(50)]
    assert all(abs(int(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)[0, 0]) - 102) <= 1 for img in drawn)
    spreads = [int(np.ptp(img)) for img in drawn]
    assert min(spreads) < 5 and max(spreads) > 35


def test_blur_probability_and_width():
    point = np.zeros((21, 21, 3), np.uint8)
    point[10, 10] = 255
    np.random.seed(0)
    blur = RandomGaussianBlur(sigma=(0.1, 2.0), prob=0.5)
    peaks = [int(blur(dict(img=point))['img'][10, 10, 0]) for _ in range(400)]
    assert 255 / (2 * np.pi * 2.0**2) - 1 <= min(peaks) < 20  # 10.1: the peak of a Gaussian of width 2
    assert 140 < sum(peak < 255 for peak in peaks) < 240  # 190: of the half that is blurred a little stays whole
    assert point[10, 10, 0] == 255


@pytest.mark.parametrize(
    'build',
    [
        lambda: ReferringColorJitter(contrast=1.5),
        lambda: ReferringColorJitter(prob=-1),
        lambda: RandomGaussianBlur(sigma=(2.0, 0.1)),
        lambda: RandomGaussianBlur(sigma=(0.0, 1.0)),
    ],
)
def test_impossible_strength_is_an_error(build):
    with pytest.raises(ValueError, match='must'):
        build()
