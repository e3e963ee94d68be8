"""Segment images by sentences from Python."""

import os
import os.path as osp
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from numbers import Integral
from typing import get_args

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.progress import Progress
from torch import nn

from ..mmengine_extras import prepare_process
from ..utils import check_folder, load_strictly, wrap_write_errors
from ..visualization import draw_masks, file_stem, write_image
from .inputs import ImageInput, InputError, Sentences, is_single, list_images, match_sentences
from .model_source import ModelInput, check_device, resolve_model
from .pairs import PairPipeline, batches
from .prompts import Prompt, PromptInput, check_takes_prompts, match_prompts
from .results import MaskForm, prediction_of, with_mask_as


class ReferringInferencer(BaseInferencer):
    """Segments images by sentences.

    Unlike `MMSegInferencer`, it takes sentences with every image and returns a mask for each, it loads only weights
    that fit the model exactly, and it names files by image and sentence and never replaces one.

        >>> inferencer = ReferringInferencer()
        >>> inferencer('photo.jpg', 'the small red star')['predictions'][0]['mask']

    Args:
        model: Config file or config. None, without weights, is the model that comes with the repository.
        weights: Checkpoint, `.safetensors` or `.pth`. With a config, None leaves the weights random, with a warning.
        device: As in torch. By default an accelerator if there is one.
        scope: mm's default scope.
        show_progress: Whether to show a progress bar on stderr when there is more than one batch.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        CheckpointError: The checkpoint is damaged or belongs to another model; the message lists the differences.
        InputError: Weights come without a config, the config has a misspelled key or a value of the wrong type, its
            test pipeline loads no image, the model belongs to another scope, or there is no such device.
    """

    def __init__(
        self,
        model: ModelInput = None,
        weights: str | os.PathLike | None = None,
        device: str | None = None,
        scope: str = 'mmseg',
        show_progress: bool = True,
    ) -> None:
        check_device(device)
        init_default_scope(scope)
        prepare_process()
        config, self._weights = resolve_model(model, weights, scope)
        super().__init__(config, self._weights, device=device, scope=scope, show_progress=show_progress)

    def __call__(
        self,
        inputs: ImageInput | Sequence[ImageInput],
        sentences: Sentences,
        points: PromptInput = None,
        boxes: PromptInput = None,
        batch_size: int = 1,
        return_masks: MaskForm = 'array',
        out_dir: str = '',
        show: bool = False,
        wait_time: float = 0,
        return_vis: bool = False,
        return_datasamples: bool = False,
        font: str | None = None,
    ) -> dict[str, list]:
        """Segment each image by each of its sentences.

        Args:
            inputs: An image or a list of them; see `list_images`. Images are turned as their EXIF tag says.
            sentences: For one image a sentence or a list of them. For several images (a list or a folder) a list
                with a sentence or a list of sentences for each, or one sentence for all.
            points: Points on the object and outside it, for models that take them: (x, y) or (x, y, label), label 1
                inside and 0 outside, in pixels of the image as it is shown. For one image a list of points for all its
                sentences, or a list with such a list, or None, for each sentence; for several images a list with one
                of these, or None, for each image.
            boxes: (left, top, right, bottom) around the object; likewise.
            batch_size: Pairs of image and sentence that go through the model together. The masks do not depend on it.
            return_masks: `array` for boolean arrays, as `mask`; `rle` for COCO's compressed run lengths, which are
                exact and small, or `polygons` for its polygons, without holes, both as `segmentation`.
            out_dir: Folder for pictures: in `vis/` one for each image, with masks and sentences drawn over it; in
                `pred/` one for each sentence with the mask, 255 inside and 0 outside. No file is replaced.
            show: Whether to show the drawn pictures in a window.
            wait_time: How long to show each, in seconds; 0 waits for a key.
            return_vis: Whether to return the drawn pictures.
            return_datasamples: Whether to return the predictions as `SegDataSample`, as the model gives them.
            font: As in `draw_masks`.

        Returns:
            Two lists. `predictions` has a dict for each image and sentence, in the order of the input, with `img_path`,
            `sentence`, `mask`, `score`, `box` and `area` (see `prediction_of`), and with `out_dir` also `overlay_file`
            and `mask_file`. `visualization` has with `return_vis` one RGB array (H', W', 3) for each image.

        Raises:
            FileNotFoundError: An image or the font does not exist.
            InputError: An image cannot be decoded, a sentence is empty, the numbers of images and of sentences, points
                or boxes differ, a point or box is malformed or outside its image, the model takes neither, or `out_dir`
                cannot be written to.
        """
        if return_masks not in get_args(MaskForm):
            raise InputError(f'return_masks={return_masks!r} is not one of {", ".join(get_args(MaskForm))}')
        images, single = list_images(inputs), is_single(inputs)
        names = [image if isinstance(image, str) else f'image_{i}' for i, image in enumerate(images, 1)]
        matched = match_sentences(sentences, names, single)
        prompts = match_prompts(points, boxes, names, list(map(len, matched)), single)
        if any(map(any, prompts)):
            check_takes_prompts(self.model.decode_head, self.pipeline.stage)
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise InputError(f'batch_size must be a whole number of 1 or more, got {batch_size!r}')
        if out_dir:
            check_folder(out_dir)
        results: list = []
        visualization: list[np.ndarray] = []
        loader = self.preprocess(images, batch_size, names=names, sentences=matched, prompts=prompts)
        stream = self._predict(loader, sum(map(len, matched)), batch_size, return_datasamples)
        # Image by image, so that finished results are on disk if a later image turns out to be damaged.
        for image, name, texts in zip(images, names, matched):
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
        prompts: Sequence[Sequence[Prompt]],
    ) -> Iterator[dict]:
        """Batches of pairs of image and sentence, as the data loader would collate them; see `batches`."""
        images = zip(inputs, names, sentences, prompts)
        pairs = (pair for image in images for pair in self.pipeline.pairs(*image))
        fixed_size = getattr(self.model.data_preprocessor, 'size', None) is not None
        return map(self.collate_fn, batches(pairs, batch_size, mixed_shapes=fixed_size))

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
        """Draw, show and write the predictions of each image, and note the files in them."""
        visualization: list[np.ndarray] = []
        if not (out_dir or show or return_vis):
            return visualization
        for image, name, found in zip(inputs, names, preds):
            masks, sentences, scores = ([one[key] for one in found] for key in ('mask', 'sentence', 'score'))
            picture = self.pipeline.load(image, name)['img'][..., ::-1].astype(np.uint8)
            drawn = draw_masks(picture, masks, sentences, scores, font=font)
            if out_dir:
                with wrap_write_errors(out_dir):
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
        self, loader: Iterable[dict], total: int, batch_size: int, keep_samples: bool
    ) -> Iterator[tuple[dict, SegDataSample | None]]:
        """The prediction for each pair, and its data sample if requested; shows progress."""
        hidden = not self.show_progress or total <= batch_size
        with Progress(console=Console(stderr=True), disable=hidden) as progress:
            task = progress.add_task('Segmenting', total=total)
            for batch in loader:
                for sample in self.forward(batch):
                    # At 24 megapixels the probabilities of one sentence take 100 MB, so they are not kept by default.
                    yield prediction_of(sample), sample.cpu() if keep_samples else None
                progress.advance(task, len(batch['inputs']))

    def _init_pipeline(self, cfg: Config | ConfigDict) -> PairPipeline:
        return PairPipeline(cfg)

    def _init_collate(self, cfg: Config | ConfigDict) -> Callable:
        """As in mmengine, without its warning that mmseg has no registry of functions."""
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
        load_strictly(model, checkpoint, str(self._weights), f'config {name}' if name else 'the config')


def _write(drawn: np.ndarray, name: str, predictions: Sequence[dict], out_dir: str) -> None:
    """Write the picture of an image and its masks, and note their paths in the predictions."""
    stem = file_stem(name, *(prediction['sentence'] for prediction in predictions))
    overlay_file = write_image(drawn, osp.join(out_dir, 'vis'), stem)
    for prediction in predictions:
        mask = prediction['mask'].astype(np.uint8) * 255
        mask_file = write_image(mask, osp.join(out_dir, 'pred'), file_stem(name, prediction['sentence']))
        prediction.update(overlay_file=overlay_file, mask_file=mask_file)
