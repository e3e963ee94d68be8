"""The norm of SAM's maps."""

import torch.nn.functional as F
from torch import Tensor

from ...compat import import_sam_modeling


class LayerNorm2d(import_sam_modeling().common.LayerNorm2d):
    """`segment_anything.modeling.common.LayerNorm2d`, names included, over the channels of (B, C, H, W).

    SAM's takes mean and variance in the type of the map, under autocast in 16 bits: float16 ends at 65504, squares too.
    This one is PyTorch's, in the type of its weights.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).to(self.weight.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
