"""Pairs of an image and a sentence, prepared for the model as in its test pipeline."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException

import cv2
import numpy as np
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict

from ..datasets.image_stage import ImageStage, LoadedImage
from ..datasets.pipeline_check import check_steps, class_names
from ..errors import InputError
from ..mmengine_extras.config_check import class_name
from ..utils import undecodable_reason
from .open_image import OpenImage
from .prompts import Prompt

# Steps of a test pipeline that read the ground truth.
TRUTH_STEPS = ('LoadReferringMask', 'LoadAnnotations', 'SamplePrompts')


class PairPipeline:
    """The test pipeline of a config without the ground truth; it also takes arrays, and resizes an image only once.

    Raises:
        InputError: The pipeline has no `LoadImageFromFile`, or `check_steps` refuses it.
    """

    def __init__(self, cfg: Config | ConfigDict) -> None:
        steps = [dict(step) for step in cfg.test_dataloader.dataset.pipeline]
        index = next((i for i, step in enumerate(steps) if class_name(step) == 'LoadImageFromFile'), None)
        if index is None:
            raise InputError(
                'the test pipeline of the config has no LoadImageFromFile: ReferringInferencer needs it '
                'to know how images are read'
            )
        self.loader = Compose([dict(steps.pop(index), type='InferencerLoader')])
        rest = Compose(steps)
        rest.transforms = [step for step in rest.transforms if not class_names(step) & {*TRUTH_STEPS}]
        check_steps(rest.transforms, True, 'test pipeline of the config')
        self.stage = ImageStage(rest)

    def load(self, image: str | np.ndarray | OpenImage, name: str) -> dict:
        """Read an image: `img`, BGR, and what the loader notes about it.

        Raises:
            InputError: The image cannot be read or decoded.
        """
        if isinstance(image, OpenImage):
            return image.loaded
        try:
            return self.loader(image)
        # mmcv asserts that there is an image, or with `python -O` goes on without; OpenCV objects to empty files.
        except (AssertionError, AttributeError, cv2.error) as error:
            raise InputError(f'image {name} cannot be decoded: it {undecodable_reason(str(image))}') from error
        except (OSError, ValueError, HTTPException, ImportError) as error:  # addresses can fail to answer
            raise InputError(f'image {name} cannot be read: {error}') from error

    def open(self, image: str | np.ndarray, name: str) -> tuple[dict, LoadedImage]:
        """Read an image, and run on it the part of the pipeline that depends on it alone.

        Raises:
            InputError: The image cannot be read, or is too narrow to be resized.
        """
        loaded = self.load(image, name)
        with _narrow_images(name, loaded):
            # A copy: transforms replace what is in it.
            return loaded, self.stage.image(dict(loaded))

    def pairs(
        self, image: str | np.ndarray | OpenImage, name: str, sentences: Sequence[str], prompts: Sequence[Prompt]
    ) -> list[dict]:
        """An image with each of its sentences and their prompts, ready to be collated.

        Raises:
            InputError: As in `open`, or a point or box is outside the image.
        """
        if isinstance(image, OpenImage):
            loaded, resized, trunk = image.loaded, image.resized, image.trunk
        else:
            loaded, resized = self.open(image, name)
            trunk = None
        height, width = loaded['ori_shape']
        assert resized.results is not None
        shape = resized.results['img'].shape[:2]
        items = [
            dict(prompt.metainfo(height, width, shape, name), text=text, seg_fields=[])
            for text, prompt in zip(sentences, prompts)
        ]
        with _narrow_images(name, loaded):
            packed = [self.stage.item(resized, item) for item in items]
        for pair in packed if trunk is not None else ():
            pair['data_samples'].set_data(dict(trunk=trunk))
        return packed


@contextmanager
def _narrow_images(name: str, loaded: dict) -> Iterator[None]:
    """Explain the error of OpenCV or Pillow for an image of which resizing leaves nothing."""
    try:
        yield
    except InputError:
        raise
    except (cv2.error, ValueError) as error:
        height, width = loaded['ori_shape']
        raise InputError(
            f'image {name} of {width}×{height} pixels is too narrow: nothing is left of it at the '
            'size at which the model works'
        ) from error


def batches(pairs: Iterable[tuple[int, dict]], size: int, mixed_shapes: bool) -> Iterator[list[tuple[int, dict]]]:
    """Group consecutive pairs, each with the number of its image, into lists of at most `size`.

    A list holds images of several shapes only with `mixed_shapes`: the masks would depend on the batch if the model
    pads to its largest image.
    """
    batch: list[tuple[int, dict]] = []
    for pair in pairs:
        if batch and not mixed_shapes and pair[1]['inputs'].shape != batch[0][1]['inputs'].shape:
            yield batch
            batch = []
        batch.append(pair)
        # Before the next image is read.
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
