from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AddTextEncoderImage(BaseTransform):
    """Adds the image for a text encoder that reads the sentence together with it, such as `BEiT3TextEncoder`.

    The image is resized bicubically to a square, without antialiasing, and normalized; the default values are
    EVF-SAM's. It must come after the transforms that change what is seen, such as flips, and before `Resize`.

    Required key: `img`, uint8 BGR. Added key: `text_encoder_image`, float32 (3, size, size), RGB.

    Args:
        size: Side of the square.
        mean: Mean of each channel, for values in [0, 1].
        std: Standard deviation of each channel.
    """

    def __init__(
        self, size: int = 224, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)
    ) -> None:
        self.size, self.mean, self.std = size, mean, std

    def transform(self, results: dict) -> dict:
        """Add the image to an item."""
        rgb = np.ascontiguousarray(results['img'][..., ::-1].transpose(2, 0, 1))
        image = torch.from_numpy(rgb).float().div(255)
        image = F.interpolate(image[None], (self.size, self.size), mode='bicubic', align_corners=False)[0]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        results['text_encoder_image'] = (image - mean) / std
        return results

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(size={self.size}, mean={self.mean}, std={self.std})'
