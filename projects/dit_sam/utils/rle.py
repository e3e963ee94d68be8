"""Masks as COCO's compressed run-length encoding (RLE)."""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encode a boolean mask (H, W) as plain values for JSON: `size`, [H, W], and the text `counts`."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=list(rle['size']), counts=rle['counts'].decode())


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """Decode an RLE, whose `counts` are text or bytes, to a boolean mask (H, W).

    pycocotools reads beyond its memory if the RLE is broken, so check foreign ones first: `datasets.masks.check_rle`.
    """
    return coco_mask.decode(rle).astype(bool)
