"""Mosaics of the images of a batch."""

import re
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor, nn

from ..errors import InputError
from ..structures import IMAGE_NUMBERS
from ..utils.left_right import swap_left_right

# Words whose meaning depends on the whole picture, other than left and right: places, and sizes, which a mosaic halves.
DEPENDENT = (
    r'\b(?:(?:top|bottom|upper|lower|middle|center|centre|back|rear|front|side|end)(?:most|s|er)?|mid|central|'
    r'corners?|edges?|foreground|background|distance|distant|(?:\d+\s*)?o\W?\s?clock|far|near|close|high|low|'
    r'first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|\d+(?:st|nd|rd|th)|'
    r'big|large|small|little|huge|tiny|giant|medium|tall|short|'
    r'(?:clos|near|high|low|bigg|larg|small|littl|hug|tini|tall|short|long|wid|thinn|old|young)(?:er|est)|'
    r'f(?:ar|ur)th(?:er|est)|furthermost)\b'
)


@MODELS.register_module()
class BatchMosaic(nn.Module):
    """Puts an image into a random quarter of a 2 × 2 mosaic with three other images of the batch, whose masks are left
    out. For `ReferringDataPreProcessor(batch_augments=[dict(type='BatchMosaic')])`.

    The model has to find the object among more objects. NeMo (arXiv 2411.01494) chooses the other images by CLIP, so
    that they are similar but do not show what the sentence means. Here they are random: another object may fit the
    sentence, and counts as background all the same. Sentences that speak of places in the picture or of sizes would
    become false and are spared. Batches of fewer than four images stay as they are.

    Args:
        prob: Probability of a mosaic.
        spare: Regular expression; sentences in which it is found, or left or right, keep their images. Case does not
            matter.

    Raises:
        InputError: `prob` is not in [0, 1].
    """

    def __init__(self, prob: float = 0.25, spare: str = DEPENDENT) -> None:
        super().__init__()
        if not 0 <= prob <= 1:
            raise InputError(f'BatchMosaic: prob must lie in [0, 1], got {prob}')
        self.prob, self.spare = prob, re.compile(spare, re.IGNORECASE)

    def forward(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList]:
        """
        Args:
            inputs: Padded images, (B, 3, H, W), H and W even.
            data_samples: With masks of the same size, and `text` in their metainfo. Samples with an equal
                `unique_image_index` share an image.

        Returns:
            The same, with mosaics in place of some images and masks. They share their image with no other sample.

        Raises:
            InputError: H or W is odd, masks are not padded, or samples have no sentence, or points, boxes or images for
                the text encoder.
        """
        if not self.prob:
            return inputs, data_samples
        owners = [sample.metainfo.get('unique_image_index', i) for i, sample in enumerate(data_samples)]
        # For each image its first sample.
        firsts = {owner: owners.index(owner) for owner in owners}
        result = inputs.clone()
        for sample in data_samples:
            _check(sample, inputs)
        for number, sample in enumerate(data_samples):
            others = [first for owner, first in firsts.items() if owner != owners[number]]
            # The same numbers for every item, so that sparing one does not change the others.
            chosen, order, place = (
                np.random.rand() < self.prob,
                np.random.permutation(len(others)),
                np.random.randint(4),
            )
            if not chosen or len(others) < 3 or self._spares(sample.metainfo['text']):
                continue
            members = [others[index] for index in order[:3].tolist()]
            members.insert(place, number)
            result[number] = _mosaic([inputs[member] for member in members])
            masks = [torch.zeros_like(sample.gt_sem_seg.data)] * 4
            masks[place] = sample.gt_sem_seg.data
            sample.gt_sem_seg = PixelData(data=_mosaic(masks))
            sample.set_metainfo(dict(unique_image_index=next(IMAGE_NUMBERS)))
        return result, data_samples

    def _spares(self, text: str) -> bool:
        return self.spare.search(text) is not None or swap_left_right(text) != text


def _mosaic(parts: Sequence[Tensor]) -> Tensor:
    """Four images (3, H, W) or masks (1, H, W) in half the size, next to and below each other."""
    size = (parts[0].shape[1] // 2, parts[0].shape[2] // 2)
    half = [
        F.interpolate(part[None], size, mode='bilinear', antialias=True)[0]
        if part.is_floating_point()
        else part[:, 1::2, 1::2]  # 'nearest-exact', which takes no integers
        for part in parts
    ]
    return torch.cat([torch.cat(half[:2], 2), torch.cat(half[2:], 2)], 1)


def _check(sample: SegDataSample, inputs: Tensor) -> None:
    if any(sample.metainfo.get(key) is not None for key in ('points', 'box')) or 'text_encoder_image' in sample:
        raise InputError(
            'BatchMosaic moves images and masks only: leave it out of batch_augments where the data has points, boxes '
            'or images for the text encoder (SamplePrompts, AddTextEncoderImage)'
        )
    if 'text' not in sample.metainfo:
        raise InputError('BatchMosaic needs a sentence for each image: leave it out of batch_augments')
    if inputs.shape[2] % 2 or inputs.shape[3] % 2:
        raise InputError(
            f'BatchMosaic halves images, and the input has {inputs.shape[2]}×{inputs.shape[3]} pixels: set '
            'data_preprocessor.size to even numbers'
        )
    if sample.gt_sem_seg.shape != inputs.shape[2:]:
        raise InputError(
            'BatchMosaic needs masks of the size of the input: leave out data_preprocessor.pad_masks=False'
        )
