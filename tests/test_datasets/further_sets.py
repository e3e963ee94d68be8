"""What the tests of the further test sets share: boxes as masks, items, and scores of predictions."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from mmseg.registry import METRICS

from dit_sam.datasets.transforms import decode_segmentation

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
HEIGHT, WIDTH = 40, 60


def items(dataset) -> list[dict]:
    """All items, each with its decoded `mask`; every mask has the size of its image."""
    found = [dataset.get_data_info(index) for index in range(len(dataset))]
    for item in found:
        item['mask'] = decode_segmentation(item['segmentation'], item['height'], item['width'])
        assert item['segmentation']['size'] == [item['height'], item['width']] == list(item['mask'].shape)
        assert {'img_path', 'img_id', 'ref_id', 'ann_id', 'sent_id', 'category_id', 'text', 'no_target'} <= item.keys()
    return found


def columns(found: list[dict], *keys: str) -> list[tuple]:
    return [tuple(item[key] for key in keys) for item in found]


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A mask from a column and row to a column and row, the last two included."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : bottom + 1, left : right + 1] = 1
    return mask


def corners(left: int, top: int, right: int, bottom: int) -> list:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def scores(dataset, predict: Callable, **metric) -> dict:
    """The scores of `predict(item)`, the predicted mask of an item."""
    metric = METRICS.build(dict(type='ReferringIoU', **metric))
    for index, item in enumerate(items(dataset)):
        sample = dataset[index]['data_samples'].to_dict()
        prediction = predict(item).astype(np.uint8)
        mask = sample['gt_sem_seg']['data'].new_tensor(prediction)[None]
        # For protocol='dit', a network whose input has the size of the picture.
        predicted = dict(pred_sem_seg=dict(data=mask), input_probabilities=dict(data=mask.float()))
        metric.process({}, [dict(sample, **predicted)])
    return metric.evaluate(len(dataset))
