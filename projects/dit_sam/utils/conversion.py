"""What the converters of `tools/model_converters` share: which model a file belongs to, and whether it is all there."""

import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..models import SAMViT
from .encoder_size import arch_of, encoder_size, name_size
from .pretrained import state_dict_mismatch
from .state_dict_maps import StateDictMap

# SAM's own sizes.
ARCHS = ('base', 'large', 'huge')


def build_on_meta(config: dict) -> nn.Module:
    """A model whose weights have shapes and take no memory."""
    with torch.device('meta'), warnings.catch_warnings():
        # mmseg's losses warn of defaults that matter in training only.
        warnings.simplefilter('ignore')
        return MODELS.build(config)


def sam_on_meta(arch: str) -> dict[str, Tensor]:
    """The state dict of SAM of one of `ARCHS`, under our names."""
    head = build_on_meta(dict(type='SAMHead', text_dims=None))
    return nn.ModuleDict(dict(backbone=build_on_meta(dict(type='SAMViT', arch=arch)), decode_head=head)).state_dict()


def tell_arch(weights: Mapping[str, Tensor], layout: StateDictMap, source: str, asked: str | None = None) -> str:
    """Which of `ARCHS` the weights are, by width and depth of the image encoder.

    Args:
        weights: Weights by the names of `layout`.
        layout: How they are named.
        source: What to call the file in errors.
        asked: The one that it should be.

    Raises:
        InputError: No image encoder, one of another size than SAM's, or another one than asked for.
    """
    size = encoder_size(weights, layout)
    if size is None:
        raise InputError(f'{source} holds no image encoder')
    arch = arch_of(size, SAMViT.ARCHITECTURES)
    if arch not in ARCHS:
        known = ', '.join(
            f'{name} {SAMViT.ARCHITECTURES[name]["embed_dims"]} × {SAMViT.ARCHITECTURES[name]["depth"]}'
            for name in ARCHS
        )
        raise InputError(f'{source} is {name_size(size, {})}; SAM has (channels × blocks) {known}')
    if asked not in (None, arch):
        raise InputError(
            f'{source} is {name_size(size, SAMViT.ARCHITECTURES)}, not {asked}: say --arch {arch}, or '
            'nothing, or name another file'
        )
    return arch


def to_ours_exactly(
    weights: Mapping[str, Tensor], layout: StateDictMap, expected: Mapping[str, Tensor], source: str, target: str
) -> dict[str, Tensor]:
    """Weights under our names, compared with those of a model; what is wrong is said in the names of the file.

    Args:
        weights: Weights by the names of `layout`.
        layout: How they are named.
        expected: State dict of the model under our names.
        source: What to call the file in errors.
        target: What to call the model in errors.

    Raises:
        InputError: Weights are missing, unknown or of another shape.
    """
    misfit = state_dict_mismatch(layout.to_theirs(expected), layout.in_use(weights))
    if misfit:
        raise InputError(f'{source} does not fit {target}: {misfit}')
    return layout.to_ours(weights)


def summary(path: str, weights: Mapping[str, Tensor], arch: str, dropped: str) -> str:
    """What was written, in a line."""
    return (
        f'{path}: {arch}, {sum(value.numel() for value in weights.values()):,} weights in {len(weights)} tensors, '
        f'{os.path.getsize(path) / 2**20:.2f} MiB; dropped: {dropped}'
    )


def count_by_prefix(names: Sequence[str], prefixes: Sequence[str]) -> str:
    """How many names there are under each prefix, in a line."""
    counts = Counter(prefix for prefix in prefixes for name in names if name.startswith(prefix))
    return ', '.join(f'{prefix}* ({count})' for prefix, count in counts.items()) or 'nothing'
