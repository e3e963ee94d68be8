import cv2
import numpy as np
from mmcv.image import adjust_color
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmseg.registry import TRANSFORMS

from ...errors import InputError


def adjust_brightness(img: np.ndarray, factor: float) -> np.ndarray:
    """An image blended with black: `factor * img`, rounded and clipped to uint8."""
    return _blend_with(img, 0.0, factor)


def adjust_contrast(img: np.ndarray, factor: float) -> np.ndarray:
    """A BGR image blended with the mean of its gray version."""
    mean = float(cv2.cvtColor(img, cv2.COLOR_BGR2GRAY).mean())
    return _blend_with(img, float(int(mean + 0.5)), factor)


def _blend_with(img: np.ndarray, value: float, factor: float) -> np.ndarray:
    table = np.arange(256) * factor + value * (1 - factor)
    return cv2.LUT(img, np.rint(table).clip(0, 255).astype(np.uint8))


@TRANSFORMS.register_module()
class ReferringColorJitter(BaseTransform):
    """Random brightness, contrast and saturation as in torchvision's `ColorJitter`, in random order.

    Each factor is uniform in [1 - strength, 1 + strength]. The hue stays, because sentences name colors.

    Required and modified key: `img`, uint8 BGR.

    Args:
        brightness: Strength in [0, 1].
        contrast: Strength in [0, 1].
        saturation: Strength in [0, 1].
        prob: Probability of a change.

    Raises:
        InputError: A value is not in [0, 1].
    """

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, prob: float = 0.8
    ) -> None:
        self.strengths = (brightness, contrast, saturation)
        if not all(0 <= value <= 1 for value in (*self.strengths, prob)):
            raise InputError(
                'ReferringColorJitter: brightness, contrast, saturation and prob must lie in [0, 1], got '
                f'{self.strengths} and {prob}'
            )
        self.prob = prob

    @cache_randomness
    def _draw(self) -> tuple[bool, np.ndarray, np.ndarray]:
        strengths = np.array(self.strengths)
        factors = np.random.uniform(1 - strengths, 1 + strengths)
        return np.random.rand() < self.prob, factors, np.random.permutation(len(strengths))

    def transform(self, results: dict) -> dict:
        """Change the image of an item."""
        apply, factors, order = self._draw()
        if not apply:
            return results
        # mmcv's `adjust_brightness` and `adjust_contrast` cut off the fraction of a gray level.
        adjust = (adjust_brightness, adjust_contrast, adjust_color)
        for index in order:
            results['img'] = adjust[index](results['img'], float(factors[index]))
        return results

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(strengths={self.strengths}, prob={self.prob})'


@TRANSFORMS.register_module()
class RandomGaussianBlur(BaseTransform):
    """Gaussian blur of random width.

    Required and modified key: `img`, uint8.

    Args:
        sigma: Range of the standard deviation in pixels, which is drawn uniformly.
        prob: Probability of the blur.

    Raises:
        InputError: `sigma` is no rising range above 0, or `prob` not in [0, 1].
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), prob: float = 0.5) -> None:
        if not 0 < sigma[0] <= sigma[1] or not 0 <= prob <= 1:
            raise InputError(
                f'RandomGaussianBlur: sigma must be a rising range above 0, and prob lie in [0, 1], got {sigma} and '
                f'{prob}'
            )
        self.sigma = (sigma[0], sigma[1])
        self.prob = prob

    @cache_randomness
    def _draw(self) -> tuple[bool, float]:
        return np.random.rand() < self.prob, np.random.uniform(*self.sigma)

    def transform(self, results: dict) -> dict:
        """Blur the image of an item."""
        apply, sigma = self._draw()
        if apply:
            results['img'] = cv2.GaussianBlur(results['img'], (0, 0), sigma)
        return results

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(sigma={self.sigma}, prob={self.prob})'
