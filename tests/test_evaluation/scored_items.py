"""Handmade inputs of the metric, and their scores."""

import json

import torch

from dit_sam.evaluation import ReferringIoU


def item(intersection: int, prediction_only: int = 0, truth_only: int = 0, **metainfo) -> dict:
    """Masks of 4 x 5 pixels: first the pixels in both, then those in one of the two."""
    prediction, truth = torch.zeros(20, dtype=torch.int64), torch.zeros(20, dtype=torch.int64)
    prediction[: intersection + prediction_only] = 1
    truth[:intersection] = 1
    truth[intersection + prediction_only : intersection + prediction_only + truth_only] = 1
    return pair(prediction.view(4, 5), truth.view(4, 5), **metainfo)


def pair(prediction: torch.Tensor, truth: torch.Tensor, **metainfo) -> dict:
    """The metric's input for masks (H, W)."""
    return dict(pred_sem_seg=dict(data=prediction[None]), gt_sem_seg=dict(data=truth[None]), **metainfo)


def read_dump(path) -> list[dict]:
    """The lines of a dump."""
    with open(path, encoding='utf-8') as file:
        return [json.loads(line) for line in file]


def score(items: list, **kwargs) -> dict:
    metric = ReferringIoU(**kwargs)
    metric.process({}, items)
    return metric.evaluate(len(items))
