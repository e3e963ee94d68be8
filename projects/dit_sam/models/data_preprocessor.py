"""Images and masks of different sizes to one batch."""
from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import Tensor

from ..errors import InputError


@MODELS.register_module()
class ReferringDataPreProcessor(BaseDataPreprocessor):
    """Normalises, then pads with zeros around the centre (DIT, section 4.3).

    It differs from mmseg's `SegDataPreProcessor`: the picture lies in the middle, masks are padded with background,
    and pictures of a batch may differ in size also in testing. The padding is noted as `padding_size`, so that
    predictions come back at the original size; in testing the truth stays at its original size.

    Args:
        mean: Mean of each channel, after conversion to RGB.
        std: Standard deviation of each channel.
        size: Height and width of the batch; None takes the largest picture's, up to a multiple of `size_divisor`.
        size_divisor: See `size`.
        bgr_to_rgb: Whether the pictures come as BGR, as mmcv loads them.
    """

    def __init__(self,
                 mean: Sequence[float] = (123.675, 116.28, 103.53),
                 std: Sequence[float] = (58.395, 57.12, 57.375),
                 size: tuple[int, int] | None = None,
                 size_divisor: int = 16,
                 bgr_to_rgb: bool = True) -> None:
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)
        self.size, self.size_divisor, self.bgr_to_rgb = size, size_divisor, bgr_to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """
        Args:
            data: `inputs`, images (3, h, w), and `data_samples`, as the data loader collates them.
            training: Whether the truth is padded with the image.

        Returns:
            `inputs`, (B, 3, H, W), and `data_samples`.

        Raises:
            InputError: An image is larger than `size`.
        """
        data = self.cast_data(data)
        images, samples = data['inputs'], data.get('data_samples')
        height, width = self.size or self._common_size(images)
        batch = images[0].new_zeros((len(images), 3, height, width), dtype=torch.float32)
        for i, image in enumerate(images):
            left, top = self._offset(image, height, width)
            if self.bgr_to_rgb:
                image = image.flip(0)
            window = (slice(top, top + image.shape[1]), slice(left, left + image.shape[2]))
            batch[i][(slice(None), *window)] = (image.float() - self.mean) / self.std
            if samples is not None:
                self._note_padding(samples[i], image, window, (height, width), training)
        return dict(inputs=batch, data_samples=samples)

    def _common_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """The smallest multiples of `size_divisor` that hold every image."""
        return tuple(-(-max(image.shape[axis] for image in images) // self.size_divisor) * self.size_divisor
                     for axis in (1, 2))

    @staticmethod
    def _offset(image: Tensor, height: int, width: int) -> tuple[int, int]:
        """Left and top margin that centre an image (3, h, w)."""
        if image.shape[1] > height or image.shape[2] > width:
            raise InputError(f'an image of {image.shape[1]}×{image.shape[2]} does not fit the batch of '
                             f'{height}×{width}; let the pipeline resize to data_preprocessor.size')
        return (width - image.shape[2]) // 2, (height - image.shape[1]) // 2

    @staticmethod
    def _note_padding(sample, image: Tensor, window: tuple[slice, slice], size: tuple[int, int],
                      training: bool) -> None:
        """Write the margins into a data sample's metainfo and, in training, pad its mask alike."""
        rows, columns = window
        sample.set_metainfo(
            dict(pad_shape=size, padding_size=[columns.start, size[1] - columns.stop, rows.start,
                                               size[0] - rows.stop]))
        if training:
            mask = sample.gt_sem_seg.data
            padded = mask.new_zeros((1, *size))
            padded[:, rows, columns] = mask
            sample.gt_sem_seg = PixelData(data=padded)
