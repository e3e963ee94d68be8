"""Images and masks of different sizes to one batch."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..errors import InputError
from ..structures import index_tensor

Place = Literal['middle', 'corner']


@MODELS.register_module()
class ReferringDataPreProcessor(BaseDataPreprocessor):
    """Normalises, then pads with zeros around the centre (DIT, section 4.3), or below and on the right as SAM does.

    It differs from mmseg's `SegDataPreProcessor`: the picture may lie in the middle, masks are padded with background,
    and pictures of a batch may differ in size also in testing. The padding is noted as `padding_size`, so that
    predictions come back at the original size; in testing the truth stays at its original size.

    Data samples get `image_number`, which of the different images of the batch theirs is. In testing, sentences that
    follow each other may have the same image: it is prepared once, and `ReferringSegmentor` embeds it once.

    Args:
        mean: Mean of each channel, after conversion to RGB.
        std: Standard deviation of each channel.
        size: Height and width of the batch; None takes the largest picture's, up to a multiple of `size_divisor`.
        size_divisor: See `size`.
        bgr_to_rgb: Whether the pictures come as BGR, as mmcv loads them.
        place: Where a picture lies in the batch: 'middle', or 'corner', the upper left one.
        non_blocking: Whether images and masks go to a GPU while the host goes on; those that the data loader put into
            pinned memory (`pin_memory=True`) do.

    Raises:
        InputError: `place` is another word.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        size: tuple[int, int] | None = None,
        size_divisor: int = 16,
        bgr_to_rgb: bool = True,
        place: Place = 'middle',
        non_blocking: bool = True,
    ) -> None:
        super().__init__(non_blocking)
        if place not in get_args(Place):
            raise InputError(f'data_preprocessor.place={place!r} is none of {", ".join(get_args(Place))}')
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)
        self.size, self.size_divisor, self.bgr_to_rgb, self.place = size, size_divisor, bgr_to_rgb, place

    def forward(self, data: dict, training: bool = False) -> dict:
        """
        Args:
            data: `inputs`, images (3, h, w), and `data_samples`, as the data loader collates them.
            training: Whether the truth is padded with the image.

        Returns:
            `inputs`, (B, 3, H, W), and `data_samples`.

        Raises:
            InputError: An image is larger than `size`; or, in training, a mask has a label other than 0, 1 and 255.
        """
        if training:
            for sample in data.get('data_samples') or ():
                _check_labels(sample)
        numbers = list(range(len(data['inputs']))) if training else image_numbers(data['inputs'])
        images = [data['inputs'][numbers.index(number)] for number in range(max(numbers) + 1)]
        data = self.cast_data(dict(data, inputs=images))
        images, samples = data['inputs'], data.get('data_samples')
        size = self.size or self._common_size(images)
        batch = images[0].new_zeros((len(images), 3, *size), dtype=torch.float32)
        windows = [self._window(image, *size) for image in images]
        for place, image, window in zip(batch, images, windows):
            image = image.flip(0) if self.bgr_to_rgb else image
            place[(slice(None), *window)] = (image.float() - self.mean) / self.std
        for sample, number in zip(samples or (), numbers):
            sample.set_metainfo(dict(image_number=number))
            self._note_padding(sample, windows[number], size, training)
        if len(images) < len(numbers):
            batch = batch[index_tensor(numbers, batch.device)]
        return dict(inputs=batch, data_samples=samples)

    def _common_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """The smallest multiples of `size_divisor` that hold every image."""
        return tuple(
            -(-max(image.shape[axis] for image in images) // self.size_divisor) * self.size_divisor for axis in (1, 2)
        )

    def _window(self, image: Tensor, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an image (3, h, w) in the batch."""
        rows, columns = image.shape[1:]
        if rows > height or columns > width:
            advice = 'let the pipeline resize to data_preprocessor.size'
            if rows <= width and columns <= height:
                advice = (
                    'Resize takes its scale for the long and the short side, whichever way a picture stands. '
                    'Leave data_preprocessor.size out, or make it a square'
                )
            raise InputError(f'an image of {rows}×{columns} does not fit the batch of {height}×{width}; {advice}')
        top, left = ((height - rows) // 2, (width - columns) // 2) if self.place == 'middle' else (0, 0)
        return slice(top, top + rows), slice(left, left + columns)

    @staticmethod
    def _note_padding(
        sample: SegDataSample, window: tuple[slice, slice], size: tuple[int, int], training: bool
    ) -> None:
        """Write the margins into a data sample's metainfo and, in training, pad its mask alike."""
        rows, columns = window
        sample.set_metainfo(
            dict(pad_shape=size, padding_size=[columns.start, size[1] - columns.stop, rows.start, size[0] - rows.stop])
        )
        if training:
            mask = sample.gt_sem_seg.data
            padded = mask.new_zeros((1, *size))
            padded[:, rows, columns] = mask
            sample.gt_sem_seg = PixelData(data=padded)


def _check_labels(sample: SegDataSample) -> None:
    """
    Raises:
        InputError: The mask has several objects or classes; the losses would take all but 1 for background.
    """
    mask = sample.gt_sem_seg.data
    # Before it goes to a GPU, where the host would wait for the answer; and not of tensors without content.
    if type(mask) is Tensor and mask.device.type == 'cpu' and mask.numel() and mask.max() > 1:
        others = mask[(mask > 1) & (mask != 255)]
        if len(others):
            raise InputError(
                f'the mask of {sample.metainfo.get("img_path", "an item")} has the label '
                f'{others[0].item()}: referring masks have 1 in the object, 0 outside, and 255 where '
                'pixels do not count; load them by LoadReferringMask'
            )


def image_numbers(images: Sequence[Tensor]) -> list[int]:
    """For each image its number among the different ones; the same image counts as such right behind itself."""
    numbers = [0] * len(images)
    for i in range(1, len(images)):
        image, before = images[i], images[i - 1]
        same = image is before or (image.shape == before.shape and torch.equal(image, before))
        numbers[i] = numbers[i - 1] + (not same)
    return numbers
