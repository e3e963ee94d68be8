"""Ask for an object in a picture by a sentence."""

import inspect
import logging
import os
import os.path as osp
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from numbers import Integral
from typing import get_args

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.progress import Progress
from torch import nn

from ..datasets.image_stage import ImageStage
from ..engine.launch import load_config
from ..mmengine_extras.config_check import check_config
from ..utils import check_folder, load_strictly, undecodable, writing_to
from ..visualization import draw_masks, file_stem, write_image
from .defaults import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from .inputs import ImageInput, InputError, Sentences, is_single, list_images, match_sentences
from .places import Place, Places, match_places
from .results import MaskForm, describe, with_mask_as

# Steps of a test pipeline that read the truth.
OF_THE_TRUTH = ('LoadReferringMask', 'LoadAnnotations', 'SamplePrompts')


class ReferringInferencer(BaseInferencer):
    """Segments pictures by sentences.

    It differs from `MMSegInferencer` in that every image comes with sentences, each of which gets a mask of its own;
    that the weights must fit the model exactly; and that files are named by image and sentence and replace none.

        >>> inferencer = ReferringInferencer()
        >>> inferencer('photo.jpg', 'the small red star')['predictions'][0]['mask']

    Args:
        model: Config file or config. None, without weights, is the model that comes with the repository.
        weights: Checkpoint, `.safetensors` or `.pth`. With a config, None leaves the weights random, with a warning.
        device: As in torch. By default the accelerator where there is one.
        scope: mm's default scope.
        show_progress: Whether a bar on stderr shows how far it is, when there is more than one batch.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        CheckpointError: The checkpoint is damaged, or it belongs to another model; the differences are listed.
        InputError: Weights are given without a config, a key of it is misspelt or a value of the wrong type, its test
            pipeline does not load an image, the model is of another scope, or there is no such device.
    """

    def __init__(
        self,
        model: str | os.PathLike | Config | ConfigDict | dict | None = None,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
    ) -> None:
        if model is None and weights is not None:
            raise InputError(
                f'{weights} without a config: name the config too; one inside a checkpoint is code, and is not run'
            )
        if model is None:
            model, weights = DEFAULT_CONFIG, DEFAULT_CHECKPOINT
        _check_device(device)
        init_default_scope(scope)
        self._weights = weights
        if isinstance(model, (str, os.PathLike)):
            model = load_config(os.fspath(model))
        elif isinstance(model, (Config, dict)):
            check_config(model, 'the config')
        if model.get('default_scope', scope) != scope:
            raise InputError(f'the model is of {model["default_scope"]}: ReferringInferencer takes models of {scope}')
        super().__init__(
            model=model,
            weights=None if weights is None else os.fspath(weights),
            device=device,
            scope=scope,
            show_progress=show_progress,
        )

    def __call__(
        self,
        inputs: ImageInput | Sequence[ImageInput],
        sentences: Sentences,
        points: Places = None,
        boxes: Places = None,
        batch_size: int = 1,
        return_masks: MaskForm = 'array',
        out_dir: str = '',
        show: bool = False,
        wait_time: float = 0,
        return_vis: bool = False,
        return_datasamples: bool = False,
        font: str | None = None,
    ) -> dict[str, list]:
        """Segment.

        Args:
            inputs: An image or a list of them; see `list_images`. Images are turned as their EXIF tag says.
            sentences: For one image a sentence or a list of them. For several images (a list or a folder) a list
                with a sentence or a list of sentences for each, or one sentence for all.
            points: Where the object is and is not, where the model takes that, in pixels of the image as it is shown:
                (x, y) or (x, y, label), label 1 inside and 0 outside. For one image a list of points for all its
                sentences, or a list with such a list, or None, for each sentence; for several images a list with one
                of these, or None, for each image.
            boxes: (left, top, right, bottom) around the object; likewise.
            batch_size: Pairs of image and sentence that go through the model together; the masks do not depend on it.
            return_masks: `array` for boolean arrays, as `mask`; `rle` for COCO's compressed run lengths, exact and
                small, or `polygons` for its polygons, without holes, both as `segmentation`.
            out_dir: Where pictures go: `vis/`, one for an image with the masks and sentences drawn over it, and
                `pred/`, one for a sentence with the mask, 255 inside and 0 outside. Nothing is replaced there.
            show: Whether the drawn pictures are shown in a window.
            wait_time: How long each is shown, in seconds; 0 waits for a key.
            return_vis: Whether the drawn pictures are returned.
            return_datasamples: Whether the predictions are returned as `SegDataSample`, as the model gives them.
            font: As in `draw_masks`.

        Returns:
            predictions: One dict for each image and sentence, in the order of the input; see `describe`. With
                `out_dir` also `overlay_file` and `mask_file`.
            visualization: With `return_vis` one RGB array (H', W', 3) for each image, otherwise empty.

        Raises:
            FileNotFoundError: An image or the font does not exist.
            InputError: An image cannot be decoded, a sentence is empty, the numbers of images and of sentences, points
                or boxes differ, a point or a box is none in its image, the model takes neither, or `out_dir` cannot be
                written to.
        """
        if return_masks not in get_args(MaskForm):
            raise InputError(f'return_masks={return_masks!r} is none of {", ".join(get_args(MaskForm))}')
        images = list_images(inputs)
        names = [image if isinstance(image, str) else f'image_{i}' for i, image in enumerate(images, 1)]
        asked = match_sentences(sentences, names, is_single(inputs))
        places = match_places(points, boxes, names, list(map(len, asked)), is_single(inputs))
        if any(map(any, places)):
            self._check_takes_places()
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise InputError(f'batch_size must be a whole number of 1 or more, got {batch_size!r}')
        if out_dir:
            check_folder(out_dir)
        results, visualization = [], []
        stream = self._predict(images, names, asked, places, batch_size, return_datasamples)
        # Image by image, so that what is done is on disk when a later image turns out to be damaged.
        for image, name, texts in zip(images, names, asked):
            found = list(islice(stream, len(texts)))
            predictions = [prediction for prediction, _ in found]
            visualization += self.visualize([image], [predictions], [name], out_dir, show, wait_time, return_vis, font)
            predictions = [with_mask_as(prediction, return_masks) for prediction in predictions]
            results += [sample for _, sample in found] if return_datasamples else predictions
        return self.postprocess(results, visualization)

    def preprocess(
        self,
        inputs: Sequence[str | np.ndarray],
        batch_size: int,
        names: Sequence[str],
        sentences: Sequence[Sequence[str]],
        places: Sequence[Sequence[Place]],
    ) -> Iterator[dict]:
        """Batches of pairs of image and sentence, as the data loader would collate them.

        A batch also ends where the size of the images changes, if the model pads to the largest of a batch: then the
        masks would depend on the batch.
        """
        padded_alike = getattr(self.model.data_preprocessor, 'size', None) is not None
        batch = []
        for item in self._items(inputs, names, sentences, places):
            if batch and not padded_alike and item['inputs'].shape != batch[0]['inputs'].shape:
                yield self.collate_fn(batch)
                batch = []
            batch.append(item)
            if len(batch) == batch_size:
                yield self.collate_fn(batch)
                batch = []
        if batch:
            yield self.collate_fn(batch)

    def visualize(
        self,
        inputs: Sequence[str | np.ndarray],
        preds: Sequence[Sequence[dict]],
        names: Sequence[str],
        out_dir: str = '',
        show: bool = False,
        wait_time: float = 0,
        return_vis: bool = False,
        font: str | None = None,
    ) -> list[np.ndarray]:
        """Draw, show and write the predictions `preds` of each image, and note the files in them."""
        visualization = []
        if not (out_dir or show or return_vis):
            return visualization
        for image, name, found in zip(inputs, names, preds):
            masks, sentences, scores = ([one[key] for one in found] for key in ('mask', 'sentence', 'score'))
            picture = self._load(image, name)['img'][..., ::-1].astype(np.uint8)
            drawn = draw_masks(picture, masks, sentences, scores, font=font)
            if out_dir:
                with writing_to(out_dir):
                    _write(drawn, name, found, out_dir)
            if show:
                self.visualizer.show(drawn, win_name=osp.basename(name), wait_time=wait_time)
            if return_vis:
                visualization.append(drawn)
        return visualization

    def postprocess(self, preds: list, visualization: list[np.ndarray], return_datasample: bool = False) -> dict:
        """mm's form of a result; `preds` are dicts or data samples already."""
        return dict(predictions=preds, visualization=visualization)

    def _predict(
        self,
        images: Sequence[str | np.ndarray],
        names: Sequence[str],
        sentences: Sequence[Sequence[str]],
        places: Sequence[Sequence[Place]],
        batch_size: int,
        keep_samples: bool,
    ) -> Iterator[tuple[dict, SegDataSample | None]]:
        """The prediction for each pair of image and sentence, and its data sample where wanted."""
        batches = self.preprocess(images, batch_size, names=names, sentences=sentences, places=places)
        for batch in self._track(batches, sum(map(len, sentences)), batch_size):
            for sample in self.forward(batch):
                # At 24 megapixels the probabilities of one sentence take 100 MB: they go unless they are wanted.
                yield describe(sample), sample.cpu() if keep_samples else None

    def _load(self, image: str | np.ndarray, name: str) -> dict:
        """`img`, BGR, and what the loader notes about it.

        Raises:
            InputError: The image cannot be read or decoded.
        """
        try:
            return self.loader(image)
        # mmcv asserts that there is an image, OpenCV objects to empty files.
        except (AssertionError, cv2.error) as error:
            raise InputError(f'image {name} cannot be decoded: it {undecodable(image)}') from error
        except (OSError, ValueError) as error:  # addresses can fail to answer
            raise InputError(f'image {name} cannot be read: {error}') from error

    def _items(
        self,
        images: Sequence[str | np.ndarray],
        names: Sequence[str],
        sentences: Sequence[Sequence[str]],
        places: Sequence[Sequence[Place]],
    ) -> Iterator[dict]:
        """The pairs of image and sentence, prepared for the model; each image is read and resized once."""
        for image, name, texts, where in zip(images, names, sentences, places):
            yield from self._prepare(self._load(image, name), texts, where, name)

    def _prepare(self, loaded: dict, texts: Sequence[str], places: Sequence[Place], name: str) -> list[dict]:
        """A loaded image with each of its sentences, through the rest of the pipeline.

        Raises:
            InputError: The image is so narrow that the resize leaves nothing of it, or a point or a box lies beyond it.
        """
        height, width = loaded['ori_shape']
        try:
            image = self.pipeline.image(loaded)
            items = [
                dict(place.metainfo(height, width, image.results['img'].shape[:2], name), text=text, seg_fields=[])
                for text, place in zip(texts, places)
            ]
            return [self.pipeline.item(image, item) for item in items]
        except cv2.error as error:
            raise InputError(
                f'image {name} of {width}×{height} pixels is too narrow: nothing is left of it at the '
                'size at which the model works'
            ) from error

    def _check_takes_places(self) -> None:
        """
        Raises:
            InputError: The model takes no points and boxes, or its test pipeline may move the image under them.
        """
        head = self.model.decode_head
        if 'prompts' not in inspect.signature(head.forward).parameters:
            raise InputError(
                f'points or boxes are given, but {type(head).__name__} takes none: leave them out, or '
                'choose a model with SAMHead'
            )
        if not self.pipeline.shares:
            steps = ', '.join(type(step).__name__ for step in self.pipeline.rest.transforms)
            raise InputError(
                'points or boxes are given, but behind Resize the test pipeline has steps that may move '
                f'the image under them: {steps}'
            )
        embeddings = getattr(head, 'prompt_encoder', None)
        if embeddings is not None and not any(one.requires_grad for one in embeddings.point_embeddings.parameters()):
            print_log(
                'this model was not trained with points and boxes (decode_head.spatial_prompts=False): what they '
                "do is left to chance, unless its weights began as SAM's",
                'current',
                logging.WARNING,
            )

    def _track(self, batches: Iterable[dict], total: int, batch_size: int) -> Iterator[dict]:
        """Pass batches on and show how many pairs are done."""
        hidden = not self.show_progress or total <= batch_size
        with Progress(console=Console(stderr=True), disable=hidden) as progress:
            task = progress.add_task('Segmenting', total=total)
            for batch in batches:
                yield batch
                progress.advance(task, len(batch['inputs']))

    def _init_pipeline(self, cfg: Config | ConfigDict) -> ImageStage:
        """The test pipeline without the truth; its loader becomes `self.loader`, which takes arrays too."""
        steps = [dict(step) for step in cfg.test_dataloader.dataset.pipeline if _name_of(step) not in OF_THE_TRUTH]
        index = next((i for i, step in enumerate(steps) if _name_of(step) == 'LoadImageFromFile'), None)
        if index is None:
            raise InputError(
                'the test pipeline of the config has no LoadImageFromFile: ReferringInferencer needs it '
                'to know how images are read'
            )
        self.loader = Compose([dict(steps.pop(index), type='InferencerLoader')])
        return ImageStage(Compose(steps))

    def _init_collate(self, cfg: Config | ConfigDict) -> Callable:
        """As in mmengine, without its warning that mmseg has no registry of functions where none is asked for."""
        return super()._init_collate(cfg) if 'collate_fn' in cfg.test_dataloader else pseudo_collate

    def _init_visualizer(self, cfg: Config | ConfigDict) -> Visualizer:
        """Only a window: the pictures come from `draw_masks`."""
        return Visualizer()

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict | None, cfg: Config | ConfigDict) -> None:
        """Load weights that fit exactly; see `load_strictly`."""
        if checkpoint is None:
            super()._load_weights_to_model(model, checkpoint, cfg)
            return
        name = getattr(cfg, 'filename', None)
        load_strictly(model, checkpoint, self._weights, f'config {name}' if name else 'the config')


def _check_device(device: str | None) -> None:
    """
    Raises:
        InputError: torch knows no such device, or this machine has none.
    """
    try:
        torch.empty(0, device=device)
    # An assertion where torch is built without CUDA.
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'there is no device {device!r} here ({reason}): leave it out, or name cpu') from error


def _name_of(step: dict) -> str:
    """Name of a transform, given by name, with or without a scope, or as a class."""
    kind = step['type']
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__


def _write(drawn: np.ndarray, name: str, predictions: Sequence[dict], out_dir: str) -> None:
    """Write the picture of an image and its masks; the paths go into the predictions."""
    stem = file_stem(name, *(prediction['sentence'] for prediction in predictions))
    overlay_file = write_image(drawn, osp.join(out_dir, 'vis'), stem)
    for prediction in predictions:
        mask = prediction['mask'].astype(np.uint8) * 255
        mask_file = write_image(mask, osp.join(out_dir, 'pred'), file_stem(name, prediction['sentence']))
        prediction.update(overlay_file=overlay_file, mask_file=mask_file)
