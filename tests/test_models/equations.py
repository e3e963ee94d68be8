"""The paper's instructions, implemented independently: slow, sentence by sentence, in float64.

The attention that goes with them is in benchmarks/textbook.py. Shapes: H × W visual tokens, L text tokens,
D channels.
"""

import copy

import torch
from torch import Tensor, nn


def words_of(
    scheme: str, instruction: nn.Module, layer: int, features: Tensor, previous: Tensor | None, visual: Tensor
) -> Tensor:
    """The text tokens T_i that enter block i = `layer`, by the paper's equations.

    Args:
        scheme: Name of the instruction's class.
        instruction: The instruction, whose weights are used; in float64.
        layer: i.
        features: Projected text features F_t, (B, L, D).
        previous: The text tokens after block i − 1, (B, L, D).
        visual: Visual tokens that enter block i, (B, H, W, D).
    """
    length = features.shape[1]
    if scheme == 'LayerWiseInstruction':
        return instruction.projections[str(layer)](features)
    if scheme == 'EndToEndInstruction':
        return instruction.projections[str(layer)](previous if layer else features)
    if scheme == 'LayerWiseStaticInstruction':
        return features + instruction.static_tokens[layer][:length]
    if scheme == 'EndToEndStaticInstruction':
        return previous + instruction.static_tokens[layer - 1][:length] if layer else instruction.projection(features)
    return torch.stack(
        [
            cross_attention(instruction.layers[str(layer)], words, image.reshape(-1, image.shape[-1]))
            for words, image in zip(features, visual)
        ]
    )


def cross_attention(layer: nn.Module, words: Tensor, image: Tensor) -> Tensor:
    """LN(F_t + MHA(q = F_t, k = v = V)) for one pair of (L, D) and (H·W, D), head by head; then LN(x + FFN(x)).

    V is the image, or its LN.
    """
    if isinstance(layer.norm_visual, nn.LayerNorm):
        image = _norm(layer.norm_visual, image)
    q, k, v = layer.q_proj(words), layer.k_proj(image), layer.v_proj(image)
    heads = []
    for part in torch.arange(q.shape[1]).chunk(layer.num_heads):
        weights = (q[:, part] @ k[:, part].t() / len(part) ** 0.5).softmax(-1)
        heads.append(weights @ v[:, part])
    x = _norm(layer.norms[0], words + layer.out_proj(torch.cat(heads, -1)))
    if layer.ffn is None:
        return x
    hidden = layer.ffn.lin1(x)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))  # GELU
    return _norm(layer.norms[1], x + layer.ffn.lin2(hidden))


def _norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.pow(2).mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def double(module: nn.Module) -> nn.Module:
    """A copy in float64 without gradients."""
    clone = copy.deepcopy(module).double()
    clone.zero_grad()
    return clone
