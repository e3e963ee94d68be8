"""The layers of SAM's neck."""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """`segment_anything.modeling.common.LayerNorm2d` in the type of its weights, over the channels of (B, C, H, W).

    SAM computes mean and variance in the type of the map. Under autocast that has 16 bits, and squares overflow
    float16. State-dict names are SAM's. As an `nn.LayerNorm` it is found by `norm_decay_mult` in `paramwise_cfg`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).to(self.weight.dtype)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class PointwiseConv(nn.Conv2d):
    """A 1 × 1 convolution without bias whose weight gradient has the strides of the weight.

    With a channels-last image the gradient of `nn.Conv2d` has other strides on the axes of length 1.
    DistributedDataParallel would copy it at every step, and warn.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Through the two reshapes the gradient comes back as a new tensor, with the strides of the weight.
        return F.conv2d(x, self.weight.flatten(1)[..., None, None])
