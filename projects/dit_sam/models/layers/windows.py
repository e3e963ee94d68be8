"""Cutting a grid of tokens into windows and back. Shapes: B images, H × W tokens, C channels, S window size."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_windows(x: Tensor, window_size: int) -> Tensor:
    """Pad a grid (B, H, W, C) with zeros at the bottom and right to whole windows."""
    pad_h, pad_w = -x.shape[1] % window_size, -x.shape[2] % window_size
    return F.pad(x, (0, 0, 0, pad_w, 0, pad_h)) if pad_h or pad_w else x


def window_partition(x: Tensor, window_size: int) -> Tensor:
    """Cut a grid of whole windows, (B, H, W, C), into windows, (B · H/S · W/S, S, S, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window_size, window_size, width // window_size, window_size, channels)
    return x.transpose(2, 3).reshape(-1, window_size, window_size, channels)


def window_unpartition(windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Put windows (B · n, S, S, C) together and drop the padding; the inverse of `window_partition`.

    Args:
        size: Height and width of the grid before padding.

    Returns:
        (B, H, W, C).
    """
    window_size, channels = windows.shape[1], windows.shape[-1]
    rows, columns = -(-size[0] // window_size), -(-size[1] // window_size)
    x = windows.view(-1, rows, columns, window_size, window_size, channels).transpose(2, 3)
    return x.reshape(-1, rows * window_size, columns * window_size, channels)[:, : size[0], : size[1]]
