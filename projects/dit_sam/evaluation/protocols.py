"""Which masks are compared: three ways of scoring in the literature. Masks are boolean, (1, H, W), on any device."""
from functools import lru_cache

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import InputError

PROTOCOLS = ('original', 'lavt480', 'dit')
LAVT_SIDE = 480
DIT_THRESHOLD = 0.35


def compared_masks(sample: dict, protocol: str) -> tuple[Tensor, Tensor]:
    """Prediction and truth of a data sample at the size of the original image.

    With the protocol ``dit`` the prediction is made as the released DIT code makes it: probabilities at the network's
    input size, without padding, above 0.35; the result resized bilinearly, and every pixel taken that is above 0, so
    that the mask grows by up to a pixel of the input. ``align_corners`` is False, as in ``cv2.resize``.

    Args:
        sample: With ``gt_sem_seg`` and ``pred_sem_seg``, for ``dit`` with ``input_probabilities`` in place of the
            latter; each a dict with ``data`` of shape (1, H, W), the first two in {0, 1}.
        protocol: One of ``PROTOCOLS``.

    Raises:
        InputError: Prediction and truth differ in shape, or there are no probabilities at the input size.
    """
    truth = sample['gt_sem_seg']['data'] == 1
    prediction = _dit_mask(sample, truth) if protocol == 'dit' else sample['pred_sem_seg']['data'] == 1
    if prediction.shape != truth.shape:
        raise InputError(f'The prediction has shape {tuple(prediction.shape)} and the truth {tuple(truth.shape)} for '
                         f'"{sample.get("text")}" (sentence {sample.get("sent_id")}) of {sample.get("img_path")}: '
                         'both must have the size of the original image')
    return prediction, truth.to(prediction.device)


def _dit_mask(sample: dict, truth: Tensor) -> Tensor:
    if 'input_probabilities' not in sample:
        raise InputError("protocol='dit' scores the probabilities at the network's input size, which the model did not "
                         'keep: set model.test_cfg.keep_input_probabilities=True')
    inside = sample['input_probabilities']['data'] > DIT_THRESHOLD
    return F.interpolate(inside[None].float(), truth.shape[1:], mode='bilinear', align_corners=False)[0] > 0


def stretch(mask: Tensor) -> Tensor:
    """A mask at 480 x 480, whatever its shape, by nearest neighbour (LAVT, ``transforms.py``).

    The neighbour is Pillow's, as there. At the width of most COCO pictures, 640, every third pixel lies halfway between
    two; there Pillow and torch differ.
    """
    rows, columns = (_nearest(size) for size in mask.shape[1:])
    return mask[:, rows][:, :, columns]


@lru_cache(maxsize=None)
def _nearest(size: int) -> np.ndarray:
    """For each of the 480 pixels of a line the index of its neighbour among `size`."""
    line = Image.fromarray(np.arange(size, dtype=np.int32)[None])
    return np.asarray(line.resize((LAVT_SIDE, 1), Image.Resampling.NEAREST))[0].astype(np.int64)
