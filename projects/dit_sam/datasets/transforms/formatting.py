from collections.abc import Sequence

from mmengine.structures import BaseDataElement, PixelData
from mmseg.datasets.transforms import PackSegInputs
from mmseg.registry import TRANSFORMS
from mmseg.structures import SegDataSample
from torch import Tensor

META_KEYS = (
    *('text', 'kind', 'img_id', 'ref_id', 'ann_id', 'sent_id', 'category_id', 'no_target', 'sample_idx', 'img_path'),
    *('ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction'),
    *('points', 'point_labels', 'box', 'scaled_truth'),
)


class ReferringDataSample(SegDataSample):
    """mmseg's data sample with pinned tensors in a data loader with `pin_memory=True`.

    mmseg's own is not pinned, and the host waits while such tensors are copied to a GPU.
    """

    def pin_memory(self) -> 'ReferringDataSample':
        """A copy in pinned memory."""
        return _pinned(self)


def _pinned(element: BaseDataElement) -> BaseDataElement:
    pinned = element.new()
    for name, value in element.items():
        if isinstance(value, BaseDataElement):
            value = _pinned(value)
        elif isinstance(value, Tensor):
            value = value.pin_memory()
        pinned.set_data({name: value})
    return pinned


@TRANSFORMS.register_module()
class PackReferringInputs(PackSegInputs):
    """mmseg's `PackSegInputs` with metadata about the sentence, points and boxes, and the image of the text encoder.

    Args:
        meta_keys: Keys that are copied into `SegDataSample.metainfo` if the item has them.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        super().__init__(meta_keys=meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack an item as mmseg does, with a `ReferringDataSample`."""
        packed = super().transform(results)
        sample = packed['data_samples']
        if 'text_encoder_image' in results:
            sample.text_encoder_image = PixelData(data=results['text_encoder_image'])
        packed['data_samples'] = ReferringDataSample(metainfo=sample.metainfo, **dict(sample.items()))
        return packed
