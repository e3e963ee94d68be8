"""Test-time augmentation: one mask from several views of an image."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...utils.left_right import swap_left_right


@MODELS.register_module()
class ReferringTTAModel(SegTTAModel):
    """Averages the probabilities of several views, such as scales and a flip, at the original size.

    Unlike `SegTTAModel` it takes one channel for probabilities and not for logits, and returns the data sample of a
    view that is not flipped, with its sentence and ground truth. Views vote on whether there is a target: if most masks
    are empty (`GeneralizedSAMHead`), the merged one is empty; otherwise the empty ones do not count. Arguments as in
    `SegTTAModel`.
    """

    def merge_preds(self, data_samples_list: Sequence[SampleList]) -> SampleList:
        """Merge the views of each item into one data sample.

        Raises:
            InputError: All views of an item are flipped, or a view is mirrored and its sentence is not.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: SampleList) -> SegDataSample:
        merged = next((view for view in views if not view.metainfo.get('flip')), None)
        if merged is None:
            raise InputError('tta_pipeline flips all views of an image: add dict(type="ReferringFlip", prob=0.)')
        for view in views:
            _check_sentence(view, merged)
        # One channel holds probabilities by now, several hold logits.
        found = [view.seg_logits.data for view in views]
        mean = _mean([values if len(values) == 1 else values.softmax(0) for values in found])
        mask = (mean > self.module.decode_head.threshold).to(mean) if len(mean) == 1 else mean.argmax(0, keepdim=True)
        if 'predicted_iou' in merged:
            # Of the views whose masks count.
            counting = [view for view in views if view.pred_sem_seg.data.any()] or views
            merged.set_data(dict(predicted_iou=sum(view.predicted_iou for view in counting) / len(counting)))
        merged.set_data(dict(seg_logits=PixelData(data=mean), pred_sem_seg=PixelData(data=mask)))
        if 'input_probabilities' in merged:
            size = merged.input_probabilities.shape
            batches = (view.input_probabilities.data[None] for view in views)
            resized = [F.interpolate(batch, size, mode='bilinear', align_corners=False)[0] for batch in batches]
            merged.input_probabilities = PixelData(data=_mean(resized))
        return merged


def _check_sentence(view: SegDataSample, merged: SegDataSample) -> None:
    sentence, meta = merged.metainfo.get('text'), view.metainfo
    if sentence is None or not meta.get('flip') or meta.get('flip_direction') != 'horizontal':
        return
    if meta['text'] != swap_left_right(sentence):
        raise InputError(f'tta_pipeline flips the image and not its sentence "{sentence}": flip by ReferringFlip')


def _mean(views: Sequence[Tensor]) -> Tensor:
    """Mean of the views (C, H, W) that are not zero everywhere; zeros where most of them are."""
    filled = [probabilities for probabilities in views if probabilities.any()]
    return torch.stack(filled).mean(0) if 2 * len(filled) >= len(views) else torch.zeros_like(views[0])
