"""What a test pipeline does to an image whatever the sentence is, done once for all its sentences."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import mmcv.transforms
import mmseg.datasets.transforms
from mmcv.transforms import Compose
from torch import Tensor

from .transforms import LoadReferringMask, PackReferringInputs, SamplePrompts

# They see nothing of an item but its image, and draw nothing. Subclasses may, so they do not count.
IMAGE_ONLY = (mmcv.transforms.LoadImageFromFile, mmcv.transforms.Resize, mmseg.datasets.transforms.Resize)
# What an item may bring along that Resize changes with the image.
RESIZED = {'gt_bboxes', 'gt_keypoints', 'gt_seg_map'}
# They read the image and never write to it.
READ_ONLY = (LoadReferringMask, SamplePrompts, PackReferringInputs)


@dataclass
class LoadedImage:
    """What the head of a pipeline gives for an image, and the tensor that its items share."""

    results: dict | None
    inputs: Tensor | None = None


class ImageStage:
    """A test pipeline in two: its head up to the first transform that may depend on the sentence, and the rest.

    Items of one image share the array that the head gives, and the packed tensor, where all transforms of the rest are
    known to leave the image alone. Otherwise the rest gets a copy each time.

    Args:
        pipeline (Compose): The pipeline.
    """

    def __init__(self, pipeline: Compose) -> None:
        steps = pipeline.transforms
        head = list(takewhile(lambda step: type(step) in IMAGE_ONLY, steps))
        self.head, self.rest = Compose(head), Compose(steps[len(head) :])
        self.shares = all(type(step) in READ_ONLY for step in self.rest.transforms)

    def image(self, results: dict) -> LoadedImage:
        """An image, named by ``img_path`` or loaded already, through the head."""
        return LoadedImage(self.head(results))

    def item(self, image: LoadedImage, item: dict) -> Any:
        """An item of that image through the rest; None where the head gave nothing."""
        if image.results is None:
            return None
        results = {**item, **image.results}
        if 'img' in results and not self.shares:
            results['img'] = results['img'].copy()
        packed = self.rest(results)
        if self.shares and 'inputs' in packed:
            image.inputs = packed['inputs'] if image.inputs is None else image.inputs
            packed['inputs'] = image.inputs
        return packed


class LastImage:
    """A test pipeline that keeps what its head made of the last image.

    Args:
        pipeline (Compose): The pipeline.
    """

    def __init__(self, pipeline: Compose) -> None:
        self.pipeline, self.stage = pipeline, ImageStage(pipeline)
        self.path, self.image = None, None

    def __call__(self, item: dict) -> Any:
        """An item, which names its image by ``img_path``, through the pipeline."""
        if not RESIZED.isdisjoint(item):
            return self.pipeline(item)
        if self.path != item['img_path']:
            self.image = self.stage.image(dict(img_path=item['img_path']))
            # Last, so that an image that cannot be read is not taken for one that was.
            self.path = item['img_path']
        return self.stage.item(self.image, item)
