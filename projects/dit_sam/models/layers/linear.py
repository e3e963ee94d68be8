"""The linear layers of SAM's image encoder, and the one of its neck."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attend import on_cpu

# Numbers in the grid of one image from which on oneDNN is the faster one: with 18 × 18 × 192 it takes a tenth longer,
# with 20 × 20 × 384 as long. It is asked of one image, so that a batch goes the way of its images.
LARGE = 2**17


class Linear(nn.Linear):
    """`nn.Linear`; large grids of tokens in float32 go through oneDNN on a CPU, as 1 × 1 convolutions, where nothing
    trains.

    Tokens (B, H, W, D) lie in memory as the channels-last image that oneDNN wants. On two cores of an AMD EPYC it takes
    a fifth less time than the product of `nn.Linear`. The backward pass of a convolution is the slower one; in 16 bits
    `nn.Linear` is oneDNN's too.
    """

    def forward(self, x: Tensor) -> Tensor:
        large = x.dim() == 4 and x.shape[1:].numel() >= LARGE
        if not large or x.dtype != torch.float32 or torch.is_grad_enabled() or not on_cpu(x):
            return super().forward(x)
        return F.conv2d(x.permute(0, 3, 1, 2), self.weight[..., None, None], self.bias).permute(0, 2, 3, 1)


class PointwiseConv(nn.Conv2d):
    """`nn.Conv2d` of 1 × 1 without bias, whose weight's gradient lies in memory as the weight does.

    Of a channels-last image the gradient has other strides on the axes of length 1, for which DistributedDataParallel
    copies it at every step and warns.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Through the two reshapes the gradient comes back as a new tensor, with the strides of the weight.
        return F.conv2d(x, self.weight.flatten(1)[..., None, None])
