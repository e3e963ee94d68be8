"""Batches of images and masks of different sizes."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, get_args

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..errors import InputError
from ..structures import IMAGE_NUMBERS, index_tensor

Alignment = Literal['middle', 'corner']


@MODELS.register_module()
class ReferringDataPreProcessor(BaseDataPreprocessor):
    """Normalizes, then pads with zeros around the image (DIT, section 4.3), or below and on the right as SAM does.

    Unlike mmseg's `SegDataPreProcessor` it can center images, pads masks with background, and takes images of different
    sizes in testing too. The padding goes into the metainfo as `padding_size`, so that predictions come back at the
    original size. In testing the ground truth stays at its original size.

    Data samples get `unique_image_index`, a number of their image that no other image has. Consecutive sentences may
    share an image, which is prepared and embedded once: in testing if the images are equal, in training
    if the metainfo has `shares_image`, as `sentences_per_image` of the data sets sets it.

    Args:
        mean: Mean of each channel, after conversion to RGB.
        std: Standard deviation of each channel.
        size: Height and width of the batch; None takes the largest image's, rounded up to a multiple of `size_divisor`.
        size_divisor: See `size`.
        bgr_to_rgb: Whether images come as BGR, as mmcv loads them.
        place: Position of an image in the batch: in the 'middle', or in the upper left 'corner'.
        pad_masks: Whether masks are padded with the images in training. With False they stay as they are, for heads
            whose losses are at the size of the mask, as `EVFSAMHead`.
        non_blocking: Whether images and masks in pinned memory (`pin_memory=True` of the data loader) are copied to a
            GPU while the host continues.
        batch_augments: Modules that change the padded batch in training, as in mmseg; see `BatchMosaic`.

    Raises:
        InputError: `place` is unknown.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        size: tuple[int, int] | None = None,
        size_divisor: int = 16,
        bgr_to_rgb: bool = True,
        place: Alignment = 'middle',
        pad_masks: bool = True,
        non_blocking: bool = True,
        batch_augments: list[dict] | None = None,
    ) -> None:
        super().__init__(non_blocking)
        if place not in get_args(Alignment):
            raise InputError(f'data_preprocessor.place={place!r} is not one of {", ".join(get_args(Alignment))}')
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)
        self.size, self.size_divisor, self.bgr_to_rgb, self.place = size, size_divisor, bgr_to_rgb, place
        self.pad_masks = pad_masks
        self.batch_augments = nn.ModuleList(MODELS.build(augment) for augment in batch_augments or ())

    def forward(self, data: dict, training: bool = False) -> dict:
        """
        Args:
            data: `inputs`, images (3, h, w), and `data_samples`, as the data loader collates them.
            training: Whether the ground truth is padded with the image.

        Returns:
            `inputs`, (B, 3, H, W), and `data_samples`.

        Raises:
            InputError: An image is larger than `size`; in training, a mask has a label other than 0, 1 and 255, or
                another size than its image; or the items hold several sentences each and were not collated by
                `flatten_collate`.
        """
        if isinstance(data['inputs'][0], (list, tuple)):
            raise InputError(
                "an item of the data loader has several sentences: set collate_fn=dict(type='flatten_collate') in it"
            )
        if training:
            for sample in data.get('data_samples') or ():
                _check_labels(sample)
        indices = shared_image_indices(data) if training else unique_image_indices(data['inputs'])
        images = [data['inputs'][indices.index(index)] for index in range(max(indices) + 1)]
        numbers = [next(IMAGE_NUMBERS) for _ in images]
        self._non_blocking &= self.device.type != 'mps'  # see `to_device`
        data = self.cast_data(dict(data, inputs=images))
        images, samples = data['inputs'], data.get('data_samples')
        size = self.size or self._common_size(images)
        batch = images[0].new_zeros((len(images), 3, *size), dtype=torch.float32)
        windows = [self._window(image, *size) for image in images]
        for padded, image, (rows, columns) in zip(batch, images, windows):
            image = image.flip(0) if self.bgr_to_rgb else image
            padded[:, rows, columns] = (image.float() - self.mean) / self.std
        for sample, index in zip(samples or (), indices):
            sample.set_metainfo(dict(unique_image_index=numbers[index]))
            self._note_padding(sample, windows[index], size, training and self.pad_masks)
        if len(images) < len(indices):
            batch = batch[index_tensor(indices, batch.device)]
        for augment in self.batch_augments if training else ():
            batch, samples = augment(batch, samples)
        return dict(inputs=batch, data_samples=samples)

    def _common_size(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """The smallest multiples of `size_divisor` that hold every image."""
        height, width = (
            -(-max(image.shape[axis] for image in images) // self.size_divisor) * self.size_divisor for axis in (1, 2)
        )
        return height, width

    def _window(self, image: Tensor, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an image (3, h, w) in the batch."""
        rows, columns = image.shape[1:]
        if rows > height or columns > width:
            advice = 'let the pipeline resize to data_preprocessor.size'
            if rows <= width and columns <= height:
                advice = (
                    'Resize takes its scale for the long and the short side, in whichever order. '
                    'Leave data_preprocessor.size out, or make it a square'
                )
            raise InputError(f'an image of {rows}×{columns} does not fit the batch of {height}×{width}; {advice}')
        top, left = ((height - rows) // 2, (width - columns) // 2) if self.place == 'middle' else (0, 0)
        return slice(top, top + rows), slice(left, left + columns)

    @staticmethod
    def _note_padding(
        sample: SegDataSample, window: tuple[slice, slice], size: tuple[int, int], pad_mask: bool
    ) -> None:
        """Write the margins into a data sample's metainfo and, with `pad_mask`, pad its mask likewise."""
        rows, columns = window
        sample.set_metainfo(
            dict(
                pad_shape=size,
                padding_size=[columns.start, size[1] - columns.stop, rows.start, size[0] - rows.stop],
                mask_is_padded=pad_mask,
            )
        )
        if pad_mask:
            mask = sample.gt_sem_seg.data
            padded = mask.new_zeros((1, *size))
            inside = padded[:, rows, columns]
            if inside.shape != mask.shape:
                raise InputError(
                    f'the mask of {sample.metainfo.get("img_path", "an item")} is {tuple(mask.shape[1:])}, its image '
                    f'{tuple(inside.shape[1:])} (height, width): in the pipeline of a training, put LoadReferringMask '
                    'before Resize'
                )
            inside.copy_(mask)
            sample.gt_sem_seg = PixelData(data=padded)


def _check_labels(sample: SegDataSample) -> None:
    """Check that a mask has no label above 1, which the losses would treat as background.

    Raises:
        InputError: The mask has such a label.
    """
    mask = sample.gt_sem_seg.data
    # Only on the host, which would have to wait for a GPU. Tensors on 'meta' have no content.
    if type(mask) is Tensor and mask.device.type == 'cpu' and mask.numel() and mask.max() > 1:
        others = mask[(mask > 1) & (mask != 255)]
        if len(others):
            raise InputError(
                f'the mask of {sample.metainfo.get("img_path", "an item")} has the label '
                f'{others[0].item()}: referring masks have 1 in the object, 0 outside, and 255 where '
                'pixels do not count; load them by LoadReferringMask'
            )


def shared_image_indices(data: dict) -> list[int]:
    """For each data sample the index of its image, which is that of the one before if it has `shares_image`."""
    samples = data.get('data_samples') or [None] * len(data['inputs'])
    new = [sample is None or not sample.metainfo.get('shares_image') for sample in samples]
    new[0] = True
    return [number - 1 for number in accumulate(new)]


def unique_image_indices(images: Sequence[Tensor]) -> list[int]:
    """For each image its index among the different ones; only consecutive images are compared."""
    indices = [0] * len(images)
    for i in range(1, len(images)):
        image, before = images[i], images[i - 1]
        same = image is before or (image.shape == before.shape and torch.equal(image, before))
        indices[i] = indices[i - 1] + (not same)
    return indices
