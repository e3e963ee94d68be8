"""What the converters in `tools/model_converters` share: which model a file belongs to, and whether it is complete."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...errors import InputError
from ...utils import check_target, read_weights, state_dict_mismatch, weight_files
from ..backbones import SAMViT
from .released_text import without_upper_layers
from .sam_weights import arch_of, encoder_size, name_size
from .state_dict_maps import OURS, RELEASED_DIT, SAM, StateDictMap, find_layout

# SAM's own sizes.
ARCHS = ('base', 'large', 'huge')


def build_on_meta(config: dict) -> nn.Module:
    """Build a model whose weights have shapes but take no memory."""
    # A program of its own has no default scope yet.
    if DefaultScope.get_current_instance() is None:
        init_default_scope('mmseg')
    with torch.device('meta'), warnings.catch_warnings():
        # mmseg's losses warn about defaults that matter only in training.
        warnings.simplefilter('ignore')
        return MODELS.build(config)


def sam_on_meta(arch: str) -> dict[str, Tensor]:
    """The state dict of SAM of one of `ARCHS`, under our names."""
    head = build_on_meta(dict(type='SAMHead', text_dims=None))
    return nn.ModuleDict(dict(backbone=build_on_meta(dict(type='SAMViT', arch=arch)), decode_head=head)).state_dict()


def read_source(
    source: str, target: str, layouts: Sequence[StateDictMap], remedy: str
) -> tuple[dict[str, Tensor], StateDictMap]:
    """Check the file to write, and read the weights to convert; return them with their layout.

    Raises:
        InputError: The target cannot be written, or the source has none of the layouts; `remedy` says what to do then.
        FileNotFoundError: As in `read_weights`.
        CheckpointError: As in `read_weights`.
    """
    check_target(target, weight_files(source))
    weights = read_weights(source)
    layout = find_layout(weights, source)
    if layout not in layouts:
        raise InputError(f'{source} has the names of {layout.source}: {remedy}')
    return weights, layout


def infer_arch(weights: Mapping[str, Tensor], layout: StateDictMap, source: str, asked: str | None = None) -> str:
    """Which of `ARCHS` the weights in a file have, by width and depth of the image encoder.

    Raises:
        InputError: There is no image encoder, its size is not SAM's, or not the one that the user asked for.
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
            f'{source} is {name_size(size, SAMViT.ARCHITECTURES)}, not {asked}: use --arch {arch}, leave --arch out, '
            'or name another file'
        )
    return arch


def to_ours_exactly(
    weights: Mapping[str, Tensor], layout: StateDictMap, expected: Mapping[str, Tensor], source: str, target: str
) -> dict[str, Tensor]:
    """Rename the weights of a file to our names, if they fit the state dict of the target, `expected`.

    Layers of BERT that the target lacks are left out, see `without_upper_layers`.

    Raises:
        InputError: Weights are missing, unknown or have another shape; they are listed by their names in the file.
    """
    if layout is RELEASED_DIT:
        layers = {name.split('.')[4] for name in expected if name.startswith('text_encoder.model.encoder.layer.')}
        weights = without_upper_layers(weights, len(layers))
    misfit = state_dict_mismatch(layout.to_theirs(expected), layout.in_use(weights))
    if misfit:
        raise InputError(f'{source} does not fit {target}: {misfit}')
    return layout.to_ours(weights)


def sam_to_ours(
    weights: Mapping[str, Tensor], layout: StateDictMap, source: str, asked: str | None
) -> tuple[dict[str, Tensor], str]:
    """SAM's weights under our names, and their arch; errors as in `infer_arch` and `to_ours_exactly`."""
    arch = infer_arch(weights, layout, source, asked)
    kept = {name: value for name, value in weights.items() if not (layout is OURS and name.startswith(SAM.ours_alone))}
    return to_ours_exactly(kept, layout, sam_on_meta(arch), source, f"SAM's {vit(arch)}"), arch


def vit(arch: str) -> str:
    """ViT-B, ViT-L or ViT-H."""
    return f'ViT-{arch[0].upper()}'


def summary(path: str, weights: Mapping[str, Tensor], model: str, names: Iterable[str], dropped: Sequence[str]) -> str:
    """What was written, in one line, and how many names of the source have one of the `dropped` prefixes."""
    found = [name.removeprefix('module.') for name in names]
    counts = Counter(prefix for prefix in dropped for name in found if name.startswith(prefix))
    listed = ', '.join(f'{prefix}* ({count})' for prefix, count in counts.items()) or 'nothing'
    return (
        f'{path}: {model}, {sum(value.numel() for value in weights.values()):,} weights in {len(weights)} tensors, '
        f'{os.path.getsize(path) / 2**20:.2f} MiB; dropped: {listed}'
    )
