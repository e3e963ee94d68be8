"""The hook that draws predictions during validation and testing."""

from collections.abc import Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend, Visualizer
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ..utils import name_part, read_image
from .files import file_stem
from .overlay import draw_masks


@HOOKS.register_module()
class ReferringVisualizationHook(Hook):
    """Draws prediction and ground truth over the image, with the sentence below.

    mmseg's `SegVisualizationHook` ignores the sentence and names a picture by its image alone, so that the sentences of
    one image overwrite each other. Here the name holds the image, the sentence and its number, and a counter if it is
    taken: `val_photo_the-man-in-red_17`, `val_photo_the-man-in-red_17_2`. The visualizer passes pictures to all of its
    backends: files in `vis_data/vis_image`, TensorBoard, W&B. mmengine's does so on rank 0 only; here every rank also
    writes the files of its own items.

    Args:
        draw: Whether to draw at all; `--show` and `--show-dir` of tools/test.py turn it on.
        interval: In validation, draw one of this many batches. In testing every batch is drawn.
        show: Show the pictures in a window instead of storing them.
        wait_time: Seconds for which a picture is shown; 0 waits for a key.
    """

    def __init__(self, draw: bool = False, interval: int = 50, show: bool = False, wait_time: float = 0.0) -> None:
        self.draw = draw
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self._taken: set[str] = set()

    def before_val_epoch(self, runner: Any) -> None:
        """Free the names: validations of a training differ in their step."""
        self._taken.clear()

    def before_test_epoch(self, runner: Any) -> None:
        """Free the names."""
        self._taken.clear()

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]) -> None:
        """Draw the predictions of every `interval`-th batch."""
        if self.draw and self.every_n_inner_iters(batch_idx, self.interval):
            self._draw(runner, 'val', outputs)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: dict, outputs: Sequence[SegDataSample]) -> None:
        """Draw the predictions of every batch."""
        if self.draw:
            self._draw(runner, 'test', outputs)

    def _draw(self, runner: Any, mode: str, outputs: Sequence[SegDataSample]) -> None:
        # Not `runner.iter`, which would build the training loop and its data set.
        step = runner.message_hub.get_info('iter', 0)
        loader = getattr(getattr(runner, f'{mode}_loop', None), 'dataloader', None)
        for sample in outputs:
            image = read_as_loaded(getattr(loader, 'dataset', None), sample.img_path)
            masks, sentences = [sample.pred_sem_seg], [sample.text]
            if 'gt_sem_seg' in sample:
                masks, sentences = [*masks, sample.gt_sem_seg], [*sentences, '(ground truth)']
            picture = draw_masks(image, [mask.data[0].cpu().numpy() == 1 for mask in masks], sentences)
            name = self._name(mode, sample)
            if self.show:
                runner.visualizer.show(picture, win_name=name, wait_time=self.wait_time)
            else:
                self._store(runner.visualizer, name, picture, step)

    @staticmethod
    def _store(visualizer: Visualizer, name: str, picture: np.ndarray, step: int) -> None:
        """Pass a picture to all backends, which mmengine does on rank 0 only, or elsewhere to those of files."""
        if is_main_process():
            visualizer.add_image(name, picture, step=step)
            return
        for backend in visualizer._vis_backends.values():
            if isinstance(backend, LocalVisBackend):
                backend.add_image(name, picture, step=step)

    def _name(self, mode: str, sample: SegDataSample) -> str:
        """A name that is unique in this pass over the data."""
        # The index in the data set differs between the ranks.
        number = sample.get('sent_id', sample.get('sample_idx', 0))
        first = f'{mode}_{file_stem(sample.img_path, sample.text)}_{name_part(number)}'
        names = chain([first], (f'{first}_{again}' for again in count(2)))
        name = next(name for name in names if name not in self._taken)
        self._taken.add(name)
        return name


def read_as_loaded(dataset: Any, path: str) -> np.ndarray:
    """An image as a data set reads it, RGB, uint8, (H, W, 3), or as `read_image` does without one.

    With `color_ignore_orientation`, for one, the tag of the camera is ignored.
    """
    while hasattr(dataset, 'datasets'):
        dataset = dataset.datasets[0]
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    load = next((step for step in steps if isinstance(step, LoadImageFromFile)), None)
    loaded = None if load is None else load(dict(img_path=path))['img']
    if loaded is None or loaded.ndim != 3 or loaded.dtype != np.uint8:
        return read_image(path)
    return np.ascontiguousarray(loaded[..., ::-1])
