"""Test pipelines in which steps that depend only on the image run once for all its sentences."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import mmcv.transforms
import mmseg.datasets.transforms
from mmcv.transforms import Compose
from torch import Tensor

from .transforms import AddTextEncoderImage, LoadReferringMask, PackReferringInputs, ReferringResize, SamplePrompts

# Transforms that use only the image of an item and no random numbers. Subclasses may differ, so they do not count.
IMAGE_ONLY = (
    mmcv.transforms.LoadImageFromFile,
    mmcv.transforms.Resize,
    mmseg.datasets.transforms.Resize,
    ReferringResize,
    AddTextEncoderImage,
)
# Keys of an item that a Resize changes with the image.
RESIZED = {'gt_bboxes', 'gt_keypoints', 'gt_seg_map'}
# Transforms that never change the image.
READ_ONLY = (LoadReferringMask, SamplePrompts, PackReferringInputs)


@dataclass
class LoadedImage:
    """Result of a pipeline's head for an image, and the packed tensor that its items share."""

    results: dict | None
    inputs: Tensor | None = None


class ImageStage:
    """A test pipeline in two parts: its head, which depends on the image alone, and the rest.

    Items of one image share the array and the packed tensor if no transform of the rest can change the image.
    Otherwise each item gets a copy.
    """

    def __init__(self, pipeline: Compose) -> None:
        steps = pipeline.transforms
        head = list(takewhile(lambda step: type(step) in IMAGE_ONLY, steps))
        self.head, self.rest = Compose(head), Compose(steps[len(head) :])
        self.shares = all(type(step) in READ_ONLY for step in self.rest.transforms)

    def image(self, results: dict) -> LoadedImage:
        """Run the head on an image, given by `img_path` or already loaded."""
        return LoadedImage(self.head(results))

    def item(self, image: LoadedImage, item: dict) -> Any:
        """Run the rest of the pipeline on an item of that image; None if a step returned None."""
        if image.results is None:
            return None
        results = {**item, **image.results}
        if 'img' in results and not self.shares:
            results['img'] = results['img'].copy()
        packed = self.rest(results)
        if self.shares and packed is not None and 'inputs' in packed:
            image.inputs = packed['inputs'] if image.inputs is None else image.inputs
            packed['inputs'] = image.inputs
        return packed


class LastImage:
    """A test pipeline that keeps the result of its head for the last image."""

    def __init__(self, pipeline: Compose) -> None:
        self.pipeline, self.stage = pipeline, ImageStage(pipeline)
        self.path, self.image = None, LoadedImage(None)

    def __call__(self, item: dict) -> Any:
        """Run the pipeline on an item, whose `img_path` names its image."""
        if not RESIZED.isdisjoint(item):
            return self.pipeline(item)
        if self.path != item['img_path']:
            self.image = self.stage.image(dict(img_path=item['img_path']))
            # Last: an image that cannot be read is not kept.
            self.path = item['img_path']
        return self.stage.item(self.image, item)
