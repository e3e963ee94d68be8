"""The linear layers of the encoder's blocks.

On a CPU large grids go through oneDNN as 1 × 1 convolutions where nothing trains. This form is kept because it wins at
least 1.15 × somewhere. Seconds of a forward pass in float32 as convolutions / by `nn.Linear`, on 2 threads with torch
2.13.0 and malloc keeping memory (docs/benchmarks.md), medians of 5:

    L-DIT ViT-B at 512², AMD EPYC with AVX-512:  0.79 / 1.25 with chunked_cpu,  0.95 / 1.41 with sdpa_relpos
    L-DIT ViT-B at 512², AVX2 without AVX-512:   1.89 / 2.00                    2.07 / 2.21
    SAM ViT-B at 1024², AMD EPYC with AVX-512:   3.41 / 5.31                    5.17 / 6.98
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attend import on_cpu

# Size of one image's grid of tokens, in numbers, from which oneDNN is faster: with 18 × 18 × 192 it takes a tenth
# longer, with 20 × 20 × 384 as long. It is the size per image, so that a batch gives the same as its images alone.
LARGE = 2**17


class Linear(nn.Linear):
    """`nn.Linear`, through oneDNN for large grids of tokens (B, H, W, D) in float32 on a CPU where nothing trains.

    Such a grid has the memory layout of the channels-last image that oneDNN needs. The backward pass of a convolution
    is slower than that of `nn.Linear`, and in 16 bits `nn.Linear` uses oneDNN itself.
    """

    def forward(self, x: Tensor) -> Tensor:
        large = x.dim() == 4 and x.shape[1:].numel() >= LARGE
        if not large or x.dtype != torch.float32 or torch.is_grad_enabled() or not on_cpu(x):
            return super().forward(x)
        return F.conv2d(x.permute(0, 3, 1, 2), self.weight[..., None, None], self.bias).permute(0, 2, 3, 1)


def checkpointed_linear(linear: nn.Module, cheap: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """linear(cheap(x)), where the backward pass recomputes cheap(x), a norm or an activation.

    Autograd keeps only x, and not cheap(x) as well. The linear layer itself is not recomputed: checkpointing stops
    as soon as it has the input of the layer.
    """
    # torch.compile recomputes norms and activations by itself; checkpointed, it would recompute the product too.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return linear(cheap(x))
    # LoRA's layers, which wrap the linear one, may have dropout.
    random = not isinstance(linear, nn.Linear)
    return checkpoint(lambda tokens: linear(cheap(tokens)), x, use_reentrant=False, preserve_rng_state=random)
