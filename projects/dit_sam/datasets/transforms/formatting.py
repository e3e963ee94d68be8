from typing import Sequence

from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackReferringInputs(PackSegInputs):
    """Pack the image, the mask, and what is known of the sentence and of points and boxes.

    As :class:`mmseg.datasets.transforms.PackSegInputs`, whose default ``meta_keys`` lack the sentence and the ids.

    Args:
        meta_keys (Sequence[str]): Keys that are copied into ``SegDataSample.metainfo`` where the item has them.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = ('text', 'kind', 'img_id', 'ref_id', 'ann_id', 'sent_id', 'category_id', 'no_target',
                                    'sample_idx', 'img_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor',
                                    'flip', 'flip_direction', 'points', 'point_labels', 'box', 'scaled_truth')
    ) -> None:
        super().__init__(meta_keys=meta_keys)
