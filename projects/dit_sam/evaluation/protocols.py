"""Which masks are compared: the ways of scoring in the literature. Masks are boolean, (1, H, W), on any device."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..utils import decode_rle


@dataclass(frozen=True)
class Protocol:
    """How the prediction and the truth of a sentence are compared.

    Attributes:
        side: Side in pixels of a square to which both are stretched; None compares at the size of the original image.
        scaled_truth: Whether the truth is not stretched there, but is the one drawn from polygons scaled to the square.
        threshold: Probability above which a pixel of the network's input is inside; None takes the model's own mask.
        inclusive: Whether an IoU of exactly X counts for P@X.
    """

    side: int | None = None
    scaled_truth: bool = False
    threshold: float | None = None
    inclusive: bool = False

    def masks(self, sample: dict) -> tuple[Tensor, Tensor]:
        """Prediction and truth of a data sample at the size of the original image.

        With a threshold the prediction is made as the released DIT code makes it: probabilities at the network's input
        size, without padding, above the threshold; the result resized bilinearly, and every pixel taken that is above
        0, so that the mask grows by up to a pixel of the input. ``align_corners`` is False, as in ``cv2.resize``.

        Args:
            sample: With ``gt_sem_seg`` and ``pred_sem_seg``, for a threshold with ``input_probabilities`` in place of
                the latter; each a dict with ``data`` of shape (1, H, W), the first two in {0, 1}.

        Raises:
            InputError: Prediction and truth differ in shape, or there are no probabilities at the input size.
        """
        truth = sample['gt_sem_seg']['data'] == 1
        prediction = sample['pred_sem_seg']['data'] == 1 if self.threshold is None else self._resized(sample, truth)
        if prediction.shape != truth.shape:
            raise InputError(
                f'The prediction has shape {tuple(prediction.shape)} and the truth {tuple(truth.shape)} '
                f'for "{sample.get("text")}" (sentence {sample.get("sent_id")}) of '
                f'{sample.get("img_path")}: both must have the size of the original image'
            )
        return prediction, truth.to(prediction.device)

    def compared(self, sample: dict, prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The two as they are compared.

        Raises:
            InputError: The sample lacks the truth that is drawn from scaled polygons.
        """
        if self.side is None:
            return prediction, truth
        truth = self._scaled(sample, truth) if self.scaled_truth else stretch(truth, self.side)
        return stretch(prediction, self.side), truth

    def _resized(self, sample: dict, truth: Tensor) -> Tensor:
        if 'input_probabilities' not in sample:
            raise InputError(
                "protocol='dit' scores the probabilities at the network's input size, which the model did "
                'not keep: set model.test_cfg.keep_input_probabilities=True'
            )
        inside = sample['input_probabilities']['data'] > self.threshold
        return F.interpolate(inside[None].float(), truth.shape[1:], mode='bilinear', align_corners=False)[0] > 0

    def _scaled(self, sample: dict, truth: Tensor) -> Tensor:
        rle = sample.get('scaled_truth')
        if rle is None or list(rle['size']) != [self.side] * 2:
            raise InputError(
                f"protocol='rela480' compares with polygons scaled to {self.side} x {self.side}, which "
                'the data do not hold: set keep_outlines=True in the data set, RefCOCODataset or '
                f'GRefCOCODataset, and scaled_side={self.side} in its LoadReferringMask'
            )
        return torch.from_numpy(decode_rle(rle)).to(truth.device)[None]


PROTOCOLS = dict(
    original=Protocol(),
    lavt480=Protocol(side=480, inclusive=True),
    rela480=Protocol(side=480, scaled_truth=True, inclusive=True),
    dit=Protocol(threshold=0.35),
)


def stretch(mask: Tensor, side: int = 480) -> Tensor:
    """A mask at side x side, whatever its shape, by nearest neighbour (LAVT, ``transforms.py``).

    The neighbour is Pillow's, as there. At the width of most COCO pictures, 640, every third pixel lies halfway between
    two; there Pillow and torch differ.
    """
    rows, columns = (_nearest(size, side) for size in mask.shape[1:])
    return mask[:, rows][:, :, columns]


@cache
def _nearest(size: int, side: int) -> np.ndarray:
    """For each pixel of a line of `side` the index of its neighbour among `size`."""
    line = Image.fromarray(np.arange(size, dtype=np.int32)[None])
    return np.asarray(line.resize((side, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
