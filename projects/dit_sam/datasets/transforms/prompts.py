import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ...errors import InputError


@TRANSFORMS.register_module()
class SamplePrompts(BaseTransform):
    """Transform that adds a point inside the mask, or its box, as in SAM's training (its appendix A).

    It comes after the transforms that change the image's geometry. The mask may have another size than the image, as in
    testing; the prompts are in pixels of the image. An empty mask gets no prompt.

    Required keys: `img`, `gt_seg_map`.
    Added keys: `points`, float32 (1, 2), with `point_labels`, int64 (1,); or `box`, float32 (4,), x0 y0 x1 y1.

    Args:
        prob: Share of the items that get a prompt.
        box_prob: Share of these that get the box. The others get the point.
        noise: Standard deviation of the noise on a box's corners, as a share of its sides; 0.1 in SAM. The noise is at
            most 20 pixels.
        random: Draw points from the whole mask. False takes the deepest point in the mask and the exact box, for
            testing.

    Raises:
        InputError: `prob` or `box_prob` is not in [0, 1], or `noise` is negative.
    """

    MAX_NOISE = 20.0

    def __init__(self, prob: float = 1.0, box_prob: float = 0.5, noise: float = 0.1, random: bool = True) -> None:
        if not (0 <= prob <= 1 and 0 <= box_prob <= 1 and noise >= 0):
            raise InputError(
                f'SamplePrompts: prob and box_prob must lie in [0, 1] and noise be at least 0, got {prob}, {box_prob} '
                f'and {noise}'
            )
        self.prob, self.box_prob, self.noise, self.random = prob, box_prob, noise, random

    def transform(self, results: dict) -> dict:
        """Add a prompt to an item."""
        mask = results['gt_seg_map'] == 1
        # Always two draws, so that the random numbers that follow do not depend on them.
        prompted, as_box = np.random.rand(2) < (self.prob, self.box_prob)
        if not prompted or not mask.any():
            return results
        scale = np.array(results['img'].shape[1::-1], dtype=np.float32) / mask.shape[::-1]
        if as_box:
            results['box'] = (self._box(mask) * np.tile(scale, 2)).astype(np.float32)
        else:
            # Centers of pixels stay centers of pixels when the sizes differ.
            results['points'] = ((self._point(mask) + 0.5) * scale - 0.5)[None].astype(np.float32)
            results['point_labels'] = np.ones(1, dtype=np.int64)
        return results

    def _point(self, mask: np.ndarray) -> np.ndarray:
        """x and y of a pixel of the mask."""
        if self.random:
            rows, columns = np.nonzero(mask)
            index = np.random.randint(len(rows))
            return np.array([columns[index], rows[index]])
        # A border of zeros, so that the picture's edge is an edge of the mask.
        depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        return np.array([column, row])

    def _box(self, mask: np.ndarray) -> np.ndarray:
        """x0, y0, x1, y1 of the mask in its pixels; x1 and y1 are exclusive."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
        if not self.random:
            return box
        deviation = np.tile(self.noise * (box[2:] - box[:2]), 2)
        shift = np.clip(np.random.randn(4) * deviation, -self.MAX_NOISE, self.MAX_NOISE)
        limits = np.tile(mask.shape[::-1], 2)
        noisy = np.clip(box + shift, 0, limits)
        # Noise must not swap the corners of a box.
        return noisy if (noisy[2:] > noisy[:2]).all() else box

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(prob={self.prob}, box_prob={self.box_prob}, noise={self.noise}, '
            f'random={self.random})'
        )
