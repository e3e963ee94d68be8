"""What `ReferringInferencer` gives back for a sentence."""
from typing import Any

import numpy as np
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_mask


def describe(sample: SegDataSample) -> dict[str, Any]:
    """The prediction in a data sample, as plain values.

    Returns:
        img_path: Path of the image; None when it was an array or a PIL image.
        sentence: What was asked for.
        mask: Boolean array (H, W) at the image's size.
        score: Mean probability of the pixels inside the mask, in [0, 1]; 0 for an empty mask. It says how sure the
            model is of these pixels, not whether they are the object that is meant.
        box: [left, top, right, bottom] around the mask in pixels, so that right − left is the width; None for an
            empty mask.
        area: Number of pixels.
    """
    mask = sample.pred_sem_seg.data[0] == 1
    # The SAM head's one channel holds probabilities by now, the two of an mmseg head are logits.
    values = sample.seg_logits.data
    probability = values[0] if len(values) == 1 else values.softmax(0)[1]
    area = int(mask.sum())
    score = float(probability[mask].mean()) if area else 0.
    mask = mask.cpu().numpy()
    return dict(
        img_path=sample.metainfo.get('img_path'),
        sentence=sample.metainfo['text'],
        mask=mask,
        score=score,
        box=box_around(mask),
        area=area)


def box_around(mask: np.ndarray) -> list[int] | None:
    """[left, top, right, bottom] of a boolean mask (H, W), with ends exclusive; None when it is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def as_json(prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction of `describe` for JSON: the mask becomes COCO's compressed RLE, as `segmentation`."""
    rle = coco_mask.encode(np.asfortranarray(prediction['mask'], dtype=np.uint8))
    plain = {key: value for key, value in prediction.items() if key != 'mask'}
    return dict(plain, segmentation=dict(size=list(rle['size']), counts=rle['counts'].decode()))
