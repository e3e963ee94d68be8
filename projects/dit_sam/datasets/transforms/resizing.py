import numpy as np
from mmcv.transforms import Resize
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ReferringResize(Resize):
    """mmcv's `Resize`, with masks that stay on their pictures.

    OpenCV's nearest neighbor, which mmcv uses for masks, takes the pixel at i · old / new and so moves a mask to the
    right and down by half an input pixel, against the picture, which is resized around the centers of pixels. Here a
    mask's pixel i comes from the center, (i + 0.5) · old / new. In `RandomChoiceResize` and `RandomResize`, set
    `resize_type='ReferringResize'`. Arguments are those of the parent: `scale`, `keep_ratio` and others.
    """

    def _resize_seg(self, results: dict) -> None:
        mask = results.get('gt_seg_map')
        if mask is not None:
            rows, columns = (
                (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(mask.shape, results['img_shape'][:2])
            )
            results['gt_seg_map'] = mask[rows[:, None], columns]
