"""Segment images by sentences from Python."""

import os.path as osp
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from numbers import Integral
from typing import Any, get_args

import numpy as np
import torch
from mmseg.structures import SegDataSample
from rich.console import Console
from rich.progress import Progress

from ..utils import check_folder, wrap_write_errors
from ..visualization import draw_masks
from .inputs import ImageInput, InputError, Sentences, is_folder, is_single, list_images, match_sentences
from .model_inferencer import ModelInferencer
from .open_image import OpenImage
from .pairs import batches
from .prompts import Prompt, PromptInput, check_takes_prompts, match_prompts
from .results import ImageResult, MaskForm, prediction_of, with_mask_as, write_pictures


class ChangedImage(InputError):
    """The file of an image changed after it was segmented."""


class ReferringInferencer(ModelInferencer):
    """Segments images by sentences.

    Unlike `MMSegInferencer`, it takes sentences with every image and returns a mask for each, it loads only weights
    that fit the model exactly, and it names files by image and sentence and never replaces one.

        >>> inferencer = ReferringInferencer()
        >>> inferencer('photo.jpg', 'the small red star')['predictions'][0]['mask']

    Args:
        model: Config file or config. None, without weights, is the model that comes with the repository.
        weights: Checkpoint, `.safetensors` or `.pth`. With a config, None leaves the weights random, with a warning.
        device: As in torch. By default the accelerator that mmengine finds, but Apple's GPU only if 'mps' is named.
        scope: mm's default scope.
        show_progress: Whether to show a progress bar, in a terminal or a notebook, when there is more than one batch.
        dtype: 'float32', 'bfloat16' or 'float16'. With 16 bits large weights take half the memory, and products are
            computed so, as by autocast. A CPU takes bfloat16, and is fast with it if it has instructions for it.

    Attributes:
        source: Which config and weights the model has, in one line.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        CheckpointError: The checkpoint is damaged or belongs to another model; the message lists the differences.
        InputError: Weights come without a config, the config has a misspelled key or a value of the wrong type, its
            test pipeline loads no image, the model belongs to another scope, or there is no such device or type.
    """

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
            inputs: An image or a list of them; see `list_images`, and `open` for open images. Images are turned as
                their EXIF tag says.
            sentences: For one image or a folder, a sentence or a list of them. For several images a list with a
                sentence or a list of sentences for each, or one sentence for all.
            points: Points on the object and outside it, for models that take them: (x, y) or (x, y, label), label 1
                inside and 0 outside, in pixels of the image as it is shown. For one image a list of points for all its
                sentences, or a list with such a list, or None, for each sentence; for several images a list with one
                of these, or None, for each image.
            boxes: (left, top, right, bottom) around the object; likewise.
            batch_size: Pairs of image and sentence that go through the model together. The masks depend on it only by
                rounding.
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
        results: list = []
        visualization: list[np.ndarray] = []
        how = (batch_size, return_masks, out_dir, show, wait_time, return_vis, return_datasamples, font)
        for found in self.stream(inputs, sentences, points, boxes, *how, show_progress=self.show_progress):
            if found.error is not None:
                raise found.error
            results += found.samples if return_datasamples else found.predictions
            visualization += [] if found.picture is None else [found.picture]
        return self.postprocess(results, visualization)

    def stream(
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
        show_progress: bool = False,
    ) -> Iterator[ImageResult]:
        """Segment as a call does, and yield the results of each image as soon as they are there, for long jobs.

        An image that cannot be read or used does not end the others: its result has an `error` and no predictions.
        Other errors are those of a call, and come before the first result, also for missing files. Arguments are those
        of a call; the progress bar is off, as a program usually prints results.
        """
        _check_options(return_masks, batch_size, out_dir)
        images, single = list_images(inputs), is_single(inputs)
        if is_folder(inputs) and isinstance(sentences, (list, tuple)) and all(isinstance(s, str) for s in sentences):
            # Whoever names a folder may not know how many images it has.
            sentences = [sentences] * len(images)
        names = [_name(image, i) for i, image in enumerate(images, 1)]
        for image in images:
            self._check_own(image)
        matched = match_sentences(sentences, names, single)
        prompts = match_prompts(points, boxes, names, list(map(len, matched)), single)
        if any(map(any, prompts)):
            check_takes_prompts(self.model.decode_head, self.pipeline.stage)
        errors: dict[int, Exception] = {}
        loader = self.preprocess(images, batch_size, names=names, sentences=matched, prompts=prompts, errors=errors)
        # A batch may have pairs of the next images.
        total = sum(map(len, matched)) if show_progress else 0
        stream = self._predict(loader, total, batch_size, return_datasamples)
        ahead: dict[int, list] = {}
        for number, (image, name, texts, asked) in enumerate(zip(images, names, matched, prompts)):
            while number not in errors and len(ahead.get(number, ())) < len(texts):
                owner, *pair = next(stream, (number,))
                ahead.setdefault(owner, []).append(pair)
            found = ahead.pop(number, [])
            if number in errors:
                yield ImageResult(name, errors.pop(number))
                continue
            predictions = [prediction for prediction, _ in found]
            try:
                pictures = self.visualize(
                    [image], [predictions], [name], [asked], out_dir, show, wait_time, return_vis, font
                )
            except ChangedImage as error:
                yield ImageResult(name, error)
                continue
            predictions = [with_mask_as(prediction, return_masks) for prediction in predictions]
            samples = [sample for _, sample in found] if return_datasamples else []
            yield ImageResult(name, None, predictions, samples, *pictures)

    def open(self, image: ImageInput) -> OpenImage:
        """Read, resize and encode an image once, to ask it many sentences.

        What does not depend on text is computed here: for EVF-SAM and the default scheme the whole image encoder, for
        an instruction that starts at block k the blocks before it. It stays on the model's device until the result is
        dropped.

        Args:
            image: One image; see `list_images`.

        Raises:
            FileNotFoundError: The image does not exist.
            InputError: It cannot be decoded, or there are several images.
        """
        images = list_images(image)
        if len(images) != 1:
            raise InputError(f'open takes one image, got {len(images)}')
        self._check_own(images[0])
        # A copy: the caller may reuse an array, such as the frame of a camera.
        image = images[0].copy() if isinstance(images[0], np.ndarray) else images[0]
        return self._open(image, _name(image, 1))

    def load(self, image: ImageInput) -> np.ndarray:
        """The pixels of one image as the model is shown them, at the image's size: RGB, uint8, (H, W, 3).

        Raises:
            FileNotFoundError: The image does not exist.
            InputError: It cannot be decoded, or there are several images.
        """
        images = list_images(image)
        if len(images) != 1:
            raise InputError(f'load takes one image, got {len(images)}')
        pixels = self.pipeline.load(images[0], _name(images[0], 1))['img']
        return np.ascontiguousarray(pixels[..., ::-1].astype(np.uint8))

    def _check_own(self, image: str | np.ndarray | OpenImage) -> None:
        if isinstance(image, OpenImage) and image.inferencer is not self:
            raise InputError(f'{image.name} was opened by another inferencer: open it by this one')

    def _open(self, image: str | np.ndarray | OpenImage, name: str) -> OpenImage:
        if isinstance(image, OpenImage):
            return image
        opened = OpenImage(self, name, *self.pipeline.open(image, name))
        pair = self.pipeline.pairs(opened, name, ['any'], [Prompt()])
        with torch.no_grad(), self._autocast():
            inputs = self.model.data_preprocessor(self.collate_fn(pair))['inputs']
            opened.trunk = self.model.trunk(inputs) if hasattr(self.model, 'trunk') else None
        return opened

    def preprocess(
        self,
        inputs: Sequence[str | np.ndarray | OpenImage],
        batch_size: int,
        names: Sequence[str],
        sentences: Sequence[Sequence[str]],
        prompts: Sequence[Sequence[Prompt]],
        errors: dict[int, Exception],
    ) -> Iterator[tuple[list[int], dict]]:
        """Batches of pairs of image and sentence: the numbers of their images, and what the data loader would collate.

        What is wrong with an image goes into `errors`, by its number. See `batches`.
        """

        def pairs_of(number: int, image: Any, name: str, texts: Sequence[str], asked: Sequence[Prompt]) -> list:
            try:
                # The batches of one image share what does not depend on text.
                opened = self._open(image, name) if len(texts) > batch_size else image
                return [(number, pair) for pair in self.pipeline.pairs(opened, name, texts, asked)]
            except (InputError, FileNotFoundError) as error:
                errors[number] = error
                return []

        pairs = chain.from_iterable(map(pairs_of, range(len(inputs)), inputs, names, sentences, prompts))
        fixed_size = getattr(self.model.data_preprocessor, 'size', None) is not None
        for batch in batches(pairs, batch_size, mixed_shapes=fixed_size):
            numbers, items = zip(*batch)
            yield list(numbers), self.collate_fn(items)

    def visualize(
        self,
        inputs: Sequence[str | np.ndarray | OpenImage],
        preds: Sequence[Sequence[dict]],
        names: Sequence[str],
        prompts: Sequence[Sequence[Prompt]],
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
        for image, name, found, asked in zip(inputs, names, preds, prompts):
            masks, sentences, scores = ([one[key] for one in found] for key in ('mask', 'sentence', 'score'))
            picture = self._picture(image, name, masks[0].shape)
            points, boxes = [prompt.points for prompt in asked], [prompt.box for prompt in asked]
            drawn = draw_masks(picture, masks, sentences, scores, font=font, points=points, boxes=boxes)
            if out_dir:
                with wrap_write_errors(out_dir):
                    write_pictures(drawn, name, found, out_dir)
            if show:
                self.visualizer.show(drawn, win_name=osp.basename(name), wait_time=wait_time)
            if return_vis:
                visualization.append(drawn)
        return visualization

    def _picture(self, image: str | np.ndarray | OpenImage, name: str, size: tuple[int, int]) -> np.ndarray:
        """The image as it was segmented: RGB, uint8, (H, W, 3).

        Raises:
            ChangedImage: Its file is gone or has another size now, as that of a camera that writes the next picture.
        """
        try:
            picture = self.pipeline.load(image, name)['img'][..., ::-1].astype(np.uint8)
        except (InputError, FileNotFoundError) as error:
            raise ChangedImage(f'{error}; it could be read before, for its masks') from error
        if picture.shape[:2] != size:
            (new_height, new_width), (height, width) = picture.shape[:2], size
            raise ChangedImage(
                f'image {name} had {width}×{height} pixels when it was segmented, and has {new_width}×{new_height} '
                'now, when the masks are drawn: give a copy that nobody replaces'
            )
        return picture

    def postprocess(self, preds: list, visualization: list[np.ndarray], return_datasample: bool = False) -> dict:
        """mm's form of a result; `preds` are dicts or data samples already."""
        return dict(predictions=preds, visualization=visualization)

    def _predict(
        self, loader: Iterable[tuple[list[int], dict]], total: int, batch_size: int, keep_samples: bool
    ) -> Iterator[tuple[int, dict, SegDataSample | None]]:
        """The number of each pair's image, its prediction, and its data sample if requested; shows progress."""
        console = Console(stderr=True)
        hidden = not (console.is_terminal or console.is_jupyter) or total <= batch_size
        with Progress(console=console, disable=hidden) as progress:
            task = progress.add_task('Segmenting', total=total)
            for numbers, batch in loader:
                samples = self.forward(batch)
                progress.advance(task, len(numbers))
                for number, sample in zip(numbers, samples):
                    # At 24 megapixels the probabilities of one sentence take 100 MB, so they are not kept by default.
                    yield number, prediction_of(sample), sample.cpu() if keep_samples else None


def _check_options(return_masks: Any, batch_size: Any, out_dir: str) -> None:
    if return_masks not in get_args(MaskForm):
        raise InputError(f'return_masks={return_masks!r} is not one of {", ".join(get_args(MaskForm))}')
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise InputError(f'batch_size must be a whole number of 1 or more, got {batch_size!r}')
    if out_dir:
        check_folder(out_dir)


def _name(image: str | np.ndarray | OpenImage, number: int) -> str:
    """What to call an image in messages and files."""
    if isinstance(image, OpenImage):
        return image.name
    return image if isinstance(image, str) else f'image_{number}'
