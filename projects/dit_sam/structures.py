"""The data structures that parts of the model exchange besides feature maps: text features, points and boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .compat import to_device

# For `unique_image_index`: batches may be joined before they go to the model, so their images need different numbers.
IMAGE_NUMBERS = count()


@dataclass
class TextFeatures:
    """The sentences of a batch, encoded.

    Attributes:
        tokens: Features of every token, (B, L, D_t).
        mask: True at real tokens, False at padding, (B, L), bool.
        pooled: One feature for the whole sentence, (B, D_t), from text encoders that have one.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.dim() != 3 or self.mask.shape != self.tokens.shape[:2]:
            raise ValueError(
                f'TextFeatures needs tokens (B, L, D_t) and a mask (B, L), '
                f'got {tuple(self.tokens.shape)} and {tuple(self.mask.shape)}'
            )
        if self.mask.dtype != torch.bool:
            raise ValueError(f'TextFeatures needs a mask of bool, True at real tokens, got {self.mask.dtype}')


# Labels of the points of `SpatialPrompts`, as in SAM's ONNX export.
NOT_A_POINT, BACKGROUND, FOREGROUND, UPPER_LEFT, LOWER_RIGHT = -1, 0, 1, 2, 3


@dataclass
class SpatialPrompts:
    """SAM's spatial prompts for a batch: points, and boxes as pairs of corners.

    Attributes:
        points: x and y in pixels of the network's input, (B, N, 2).
        labels: 0 background, 1 foreground, 2 and 3 the corners of a box, −1 the point that SAM adds where there is no
            box, (B, N), int64.
        mask: True where a point is real, False where it is padding, (B, N), bool.
        size: Height and width of the network's input.
    """

    points: Tensor
    labels: Tensor
    mask: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        shape = self.labels.shape
        if self.points.shape != (*shape, 2) or len(shape) != 2 or self.mask.shape != shape:
            raise ValueError(
                f'SpatialPrompts needs points (B, N, 2), labels and a mask (B, N), got '
                f'{tuple(self.points.shape)}, {tuple(self.labels.shape)} and {tuple(self.mask.shape)}'
            )

    @classmethod
    def none(cls, images: int, size: tuple[int, int], device: torch.device | str = 'cpu') -> 'SpatialPrompts':
        """A batch without prompts."""
        labels = torch.zeros(images, 0, dtype=torch.long, device=device)
        return cls(torch.zeros(images, 0, 2, device=device), labels, labels.bool(), size)

    @classmethod
    def collate(
        cls,
        points: Sequence[Tensor | None],
        labels: Sequence[Tensor | None],
        boxes: Sequence[Tensor | None],
        size: tuple[int, int],
        device: torch.device | str = 'cpu',
    ) -> 'SpatialPrompts':
        """Batch the prompts of images, any number for each.

        Args:
            points: For each image (n, 2), or None.
            labels: For each image (n,), 1 inside and 0 outside the object; None means inside.
            boxes: For each image (x0, y0, x1, y1), or None.
            size: Height and width of the network's input.
            device: Device of the result.
        """
        sequences = [_as_points(*item) for item in zip(points, labels, boxes)]
        # Padded on the CPU: the host would wait for every write into a tensor of a GPU.
        xy = pad_sequence([xy for xy, _ in sequences], batch_first=True)
        kinds = pad_sequence([kinds for _, kinds in sequences], batch_first=True, padding_value=NOT_A_POINT)
        mask = pad_sequence([torch.ones_like(kinds).bool() for _, kinds in sequences], batch_first=True)
        xy, kinds, mask = (to_device(part, device) for part in (xy, kinds, mask))
        return cls(xy, kinds, mask, size)


def index_tensor(indices: Sequence[int], device: torch.device) -> Tensor:
    """Indices as an int64 tensor on a device, without waiting for the device."""
    return to_device(torch.tensor(indices), device)


def _as_points(points: Tensor | None, labels: Tensor | None, box: Tensor | None) -> tuple[Tensor, Tensor]:
    """The prompts of one image in SAM's order: points, then the corners of the box, or −1 without one."""
    points = torch.zeros(0, 2) if points is None else torch.as_tensor(points, dtype=torch.float32).reshape(-1, 2)
    labels = torch.full((len(points),), FOREGROUND) if labels is None else torch.as_tensor(labels).reshape(-1).long()
    if len(points) != len(labels):
        raise ValueError(f'{len(points)} points with {len(labels)} labels: give each point one')
    if box is not None:
        corners, kinds = torch.as_tensor(box, dtype=torch.float32).reshape(2, 2), [UPPER_LEFT, LOWER_RIGHT]
    else:
        kinds = [NOT_A_POINT] * min(len(points), 1)
        corners = torch.zeros(len(kinds), 2)
    return torch.cat([points.cpu(), corners.cpu()]), torch.cat([labels.cpu(), torch.tensor(kinds, dtype=torch.long)])
