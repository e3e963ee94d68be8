import numpy as np
from mmcv.transforms import RandomFlip
from mmseg.registry import TRANSFORMS

from ...errors import InputError
from ...utils.left_right import swap_left_right


@TRANSFORMS.register_module()
class ReferringFlip(RandomFlip):
    """Horizontal flip of the image, its mask, points and box that swaps left and right in the sentence.

    Required keys: `img`, `text`; optional `gt_seg_map`, `points`, `box` and `text_encoder_image`.
    Modified keys: the same. Added keys: `flip`, `flip_direction`.

    Args:
        prob: Probability of the flip.

    Raises:
        InputError: The item has no sentence, or boxes or masks of mmdet, which this transform does not flip.
    """

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob=float(prob), direction='horizontal')

    def _flip(self, results: dict) -> None:
        others = [key for key in ('gt_masks', 'gt_bboxes') if key in results]
        if others or not isinstance(results.get('text'), str):
            what = f'has {others[0]}, which would not be flipped' if others else 'has no sentence as its text'
            raise InputError(
                f'ReferringFlip: {results.get("img_path", "an item")} {what}; it is for the items of this project, '
                'which LoadReferringMask gives their mask'
            )
        super()._flip(results)
        results['text'] = swap_left_right(results['text'])
        width = results['img'].shape[1]
        if 'text_encoder_image' in results:
            results['text_encoder_image'] = results['text_encoder_image'].flip(2)
        if 'points' in results:
            # The center of the first pixel is at 0, that of the last one at width - 1.
            results['points'] = results['points'] * np.array([-1, 1], np.float32) + np.array([width - 1, 0], np.float32)
        if 'box' in results:
            left, top, right, bottom = results['box']
            results['box'] = np.array([width - right, top, width - left, bottom], np.float32)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(prob={self.prob})'
