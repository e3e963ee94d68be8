"""REFER's rules, reimplemented: how the reader that LAVT, CRIS and ReLA ship draws an annotation."""

import numpy as np
from pycocotools import mask as coco_mask


def draw(annotation: dict, image: dict) -> np.ndarray:
    """Draw the sum of an annotation's parts, (height, width): polygons, or run-length codes in a list, nothing else."""
    parts = annotation['segmentation']
    if type(parts[0]) is list:
        parts = coco_mask.frPyObjects(parts, image['height'], image['width'])
    drawn = np.sum(coco_mask.decode(parts), axis=2)
    assert sum(coco_mask.area(parts)) == drawn.sum()
    return drawn.astype(np.uint8)
