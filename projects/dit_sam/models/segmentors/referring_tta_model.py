"""Test-time augmentation: one mask out of the answers to several views of a picture."""

from collections.abc import Sequence

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor
from torch.nn import functional as F

from ...datasets.transforms import swap_left_right
from ...errors import InputError


@MODELS.register_module()
class ReferringTTAModel(SegTTAModel):
    """Averages the probabilities of the views at the original size; several scales and a flip, say.

    It differs from `SegTTAModel` in that probabilities of one channel are taken as such, and not for logits; that what
    is merged is the view that is not flipped, with its sentence and truth; and that views vote on whether anything is
    meant: where most have an empty mask (`GeneralizedSAMHead` decides so), the mask is empty, else the others count.

    Args:
        **kwargs: As in `SegTTAModel`.
    """

    def merge_preds(self, data_samples_list: Sequence[SampleList]) -> SampleList:
        """One data sample for each of the items, out of those of its views.

        Raises:
            InputError: All views of an item are flipped, or one is without its sentence.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: SampleList) -> SegDataSample:
        merged = next((view for view in views if not view.metainfo.get('flip')), None)
        if merged is None:
            raise InputError('tta_pipeline flips all views of a picture: add dict(type="ReferringFlip", prob=0.)')
        for view in views:
            _check_sentence(view, merged)
        # One channel holds probabilities by now, several hold logits.
        found = [view.seg_logits.data for view in views]
        mean = _mean([values if len(values) == 1 else values.softmax(0) for values in found])
        mask = (mean > self.module.decode_head.threshold).to(mean) if len(mean) == 1 else mean.argmax(0, keepdim=True)
        merged.set_data(dict(seg_logits=PixelData(data=mean), pred_sem_seg=PixelData(data=mask)))
        if 'input_probabilities' in merged:
            size = merged.input_probabilities.shape
            merged.input_probabilities = PixelData(
                data=_mean(
                    [
                        F.interpolate(view.input_probabilities.data[None], size, mode='bilinear', align_corners=False)[
                            0
                        ]
                        for view in views
                    ]
                )
            )
        return merged


def _check_sentence(view: SegDataSample, merged: SegDataSample) -> None:
    """
    Raises:
        InputError: The view is mirrored and its sentence is not.
    """
    sentence, meta = merged.metainfo.get('text'), view.metainfo
    if sentence is None or not meta.get('flip') or meta.get('flip_direction') != 'horizontal':
        return
    if meta['text'] != swap_left_right(sentence):
        raise InputError(f'tta_pipeline flips the picture and leaves "{sentence}" as it is: flip by ReferringFlip')


def _mean(views: Sequence[Tensor]) -> Tensor:
    """Mean of probabilities (C, H, W); zeros where most views have nothing but zeros, which else do not count."""
    seen = [probabilities for probabilities in views if probabilities.any()]
    return torch.stack(seen).mean(0) if 2 * len(seen) >= len(views) else torch.zeros_like(views[0])
