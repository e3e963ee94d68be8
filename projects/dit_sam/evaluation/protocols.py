"""Which masks are compared: the protocols of the literature. Masks are boolean, (1, H, W), on any device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..compat import to_device
from ..errors import InputError
from ..utils import decode_rle


@dataclass(frozen=True)
class Protocol:
    """How the predicted and the ground-truth mask of a sentence are compared.

    Attributes:
        side: Side in pixels of a square to which both are stretched; None compares at the size of the original image.
        scaled_truth: Whether the truth is drawn from polygons scaled to that square instead of being stretched.
        threshold: Probability above which a pixel of the network's input is inside; None uses the model's own mask.
        inclusive: Whether an IoU of exactly X counts for P@X.
    """

    side: int | None = None
    scaled_truth: bool = False
    threshold: float | None = None
    inclusive: bool = False

    def masks(self, sample: dict) -> tuple[Tensor, Tensor]:
        """Prediction and truth of a data sample at the size of the original image.

        With a threshold the prediction is made as in the released DIT code: the probabilities at the network's input
        size, without padding, are compared with the threshold, the binary mask is resized bilinearly, and every pixel
        above 0 counts, so the mask grows by up to a pixel of the input. `align_corners` is False, as in
        `cv2.resize`.

        Args:
            sample: Has `gt_sem_seg` and `pred_sem_seg` or, for a threshold, `input_probabilities`; each is a dict
                with `data` of shape (1, H, W), of which the masks are in {0, 1}; where the truth is 255, pixels do
                not count.

        Raises:
            InputError: Prediction and truth differ in shape, or there are no probabilities at the input size.
        """
        labels = sample['gt_sem_seg']['data']
        truth = labels == 1
        prediction = sample['pred_sem_seg']['data'] == 1 if self.threshold is None else self._resized(sample, truth)
        if prediction.shape != truth.shape:
            raise InputError(
                f'The prediction has shape {tuple(prediction.shape)} and the truth {tuple(truth.shape)} '
                f'for "{sample.get("text")}" (sentence {sample.get("sent_id")}) of '
                f'{sample.get("img_path")}: both must have the size of the original image'
            )
        return prediction & (labels != 255).to(prediction.device), truth.to(prediction.device)

    def compared(self, sample: dict, prediction: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Both masks at the size at which they are compared.

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
        return touched(inside, truth.shape[1:])

    def _scaled(self, sample: dict, truth: Tensor) -> Tensor:
        rle = sample.get('scaled_truth')
        if rle is None or list(rle['size']) != [self.side] * 2:
            raise InputError(
                f"protocol='rela480' compares with polygons scaled to {self.side} x {self.side}, which "
                'the data do not hold: set keep_outlines=True in the data set, RefCOCODataset or '
                f'GRefCOCODataset, and scaled_side={self.side} in its LoadReferringMask'
            )
        return torch.from_numpy(decode_rle(rle)).to(truth.device)[None]


def unexpected_values(sample: dict, device: torch.device) -> Tensor:
    """Whether a sample's masks have values that mean nothing here, (3,), bool.

    In turn: the prediction has others than 0 and 1; the truth others than 0, 1 and 255; the truth has 255, where pixels
    do not count, and no 1, although no annotation says that there is no target.
    """
    prediction, truth = (sample.get(key, {}).get('data') for key in ('pred_sem_seg', 'gt_sem_seg'))
    flags = [torch.zeros((), dtype=torch.bool, device=device)] * 3
    if prediction is not None and prediction.dtype != torch.bool:
        flags[0] = ((prediction != 0) & (prediction != 1)).any()
    if truth is not None and truth.dtype != torch.bool:
        ignored = truth == 255
        flags[1] = ((truth != 0) & (truth != 1) & ~ignored).any()
        if not sample.get('no_target', False):
            flags[2] = ignored.any() & ~(truth == 1).any()
    return torch.stack([to_device(flag, device) for flag in flags])


PROTOCOLS = dict(
    original=Protocol(),
    lavt480=Protocol(side=480, inclusive=True),
    rela480=Protocol(side=480, scaled_truth=True, inclusive=True),
    dit=Protocol(threshold=0.35),
)


def touched(mask: Tensor, size: Sequence[int]) -> Tensor:
    """The pixels of a picture of `size`, (height, width), that a bilinearly resized mask (1, h, w) touches."""
    return F.interpolate(mask[None].float(), tuple(size), mode='bilinear', align_corners=False)[0] > 0


def stretch(mask: Tensor, side: int = 480) -> Tensor:
    """Stretch a mask to side x side by Pillow's nearest neighbor, as in LAVT's `transforms.py`.

    Pillow and torch differ halfway between two pixels. At 640, the width of most COCO images, that is every third
    pixel.
    """
    rows, columns = (_nearest(size, side) for size in mask.shape[1:])
    return mask[:, rows][:, :, columns]


def stretch_array(mask: np.ndarray, side: int = 480) -> np.ndarray:
    """As `stretch`, for an array (H, W); fast if it lies column by column, as a decoded RLE does."""
    rows, columns = (_nearest(size, side) for size in mask.shape)
    return mask.T[columns][:, rows].T


@cache
def _nearest(size: int, side: int) -> np.ndarray:
    """For each of `side` pixels in a line the index of its neighbor among `size`."""
    line = Image.fromarray(np.arange(size, dtype=np.int32)[None])
    return np.asarray(line.resize((side, 1), Image.Resampling.NEAREST))[0].astype(np.int64)


def split_by_sentence(sample: dict) -> Iterator[dict]:
    """A sample of this project as it is; a sample of mmdet, which holds all sentences of an image, one per sentence.

    Args:
        sample: mmdet's has, as for its `RefSegMetric`, `pred_instances.masks`, (N, H, W), and `gt_masks` with N
            masks (`BitmapMasks` or `PolygonMasks`), both in the order of its list `text`.

    Raises:
        InputError: The numbers of predicted and true masks differ.
    """
    if 'gt_masks' not in sample or 'pred_instances' not in sample:
        yield sample
        return
    predictions = sample['pred_instances']['masks']
    truths = sample['gt_masks'].to_tensor(predictions.dtype, predictions.device)
    if len(predictions) != len(truths):
        raise InputError(
            f'{sample.get("img_path")} has {len(predictions)} predicted and {len(truths)} true masks: '
            'referring segmentation needs one of each for each sentence'
        )
    shared = {key: sample[key] for key in ('img_path', 'img_id') if key in sample}
    texts = sample.get('text')
    # The sentence is only for the dump.
    texts = texts if isinstance(texts, (list, tuple)) and len(texts) == len(truths) else [texts] * len(truths)
    for text, prediction, truth in zip(texts, predictions, truths):
        yield dict(
            shared, text=text, pred_sem_seg=dict(data=prediction[None].bool()), gt_sem_seg=dict(data=truth[None].bool())
        )
