"""SAM's weights into a backbone or a head, from a file in any of the layouts of state_dict_maps.py."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from mmengine.model.weight_init import PretrainedInit
from torch import Tensor, nn

from ...errors import InputError
from ...utils import read_weights, state_dict_mismatch
from .state_dict_maps import OURS, StateDictMap, find_layout

# More than SAM's deepest encoder has.
_MAX_DEPTH = 100
SAM_REMEDY = (
    'SAM\'s weights are under "Model Checkpoints" in the README of github.com/facebookresearch/'
    'segment-anything; put them into checkpoints/, or set init_cfg=None to start from random weights'
)


def pretrained_init_cfg(init_cfg: dict | Sequence[dict] | None, takes_prefix: bool = False) -> dict | None:
    """The dict of type Pretrained in an `init_cfg`, alone or in a list; None without one.

    Pure Python configs name the class, `PretrainedInit`.

    Raises:
        InputError: The list has other entries, there is no checkpoint, or there is a prefix and the part takes none.
    """
    configs: Sequence[dict] = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or ()
    found = next((config for config in configs if _is_pretrained(config.get('type'))), None)
    if found is None:
        return None
    if len(configs) > 1 or not isinstance(found.get('checkpoint'), str):
        raise InputError(
            f'init_cfg={init_cfg}: Pretrained must be the only entry and name a file, '
            "dict(type='Pretrained', checkpoint=FILE)"
        )
    if found.get('prefix') is not None and not takes_prefix:
        raise InputError(
            f'init_cfg.prefix={found["prefix"]!r}: this part is found by the names in the file, which may not have '
            'others in front; save it under its own names, and leave prefix out'
        )
    return found


def _is_pretrained(kind: object) -> bool:
    names = ('Pretrained', 'PretrainedInit')
    return kind is PretrainedInit or (isinstance(kind, str) and kind.rpartition('.')[2] in names)


def load_sam_weights(
    module: nn.Module, checkpoint: str, parts: Mapping[str, str], extra_prefixes: tuple[str, ...] = ()
) -> None:
    """Load the weights of SAM that belong to `module`.

    Args:
        module: A backbone or head with SAM's state-dict names.
        checkpoint: SAM's own file (`sam_vit_{b,l,h}_*.pth`), or one in another layout of `LAYOUTS`: Hugging Face's SAM
            (or its folder), a checkpoint of this project, the released DIT.
        parts: Prefixes in SAM's file and their counterparts in `module`.
        extra_prefixes: Prefixes of weights that SAM does not have. They are loaded if the file has them.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: The encoder has another size, or weights are missing, unknown or of another shape.
    """
    if '://' not in checkpoint and not os.path.exists(os.path.expanduser(checkpoint)):
        raise FileNotFoundError(f'checkpoint {checkpoint} not found: {SAM_REMEDY}')
    weights = read_weights(checkpoint)
    layout = find_layout(weights, f'checkpoint {checkpoint}')
    check_size(encoder_size(weights, layout), module, f'checkpoint {checkpoint}')
    weights = _names_of_sam(weights, layout, checkpoint)
    # The prefix of the extra weights in SAM's file, if it had them: 'image_encoder.' or ''.
    (root,) = {theirs.removesuffix(ours) for theirs, ours in parts.items()}
    wanted = {**parts, **{root + prefix: prefix for prefix in extra_prefixes}}
    state_dict = {
        ours + name.removeprefix(theirs): value
        for theirs, ours in wanted.items()
        for name, value in weights.items()
        if name.startswith(theirs)
    }
    mismatch = state_dict_mismatch(module, state_dict, extra_prefixes)
    if mismatch:
        raise InputError(f'checkpoint {checkpoint} does not fit {type(module).__name__}: {mismatch}')
    module.load_state_dict(state_dict, strict=False)


def _names_of_sam(weights: Mapping[str, Tensor], layout: StateDictMap, checkpoint: str) -> dict[str, Tensor]:
    """Weights of any layout with the prefixes of SAM's file, those included that SAM does not have."""
    try:
        # Our own checkpoints may have parts that are in no table, such as a neck. They do not matter here.
        ours = weights if layout is OURS else layout.to_ours(weights)
    except InputError as error:
        raise InputError(f'checkpoint {checkpoint}: {error}') from error
    return {re.sub(r'^decode_head\.', '', re.sub(r'^backbone\.', 'image_encoder.', name)): ours[name] for name in ours}


def encoder_size(weights: Mapping[str, Tensor], layout: StateDictMap) -> tuple[int, int] | None:
    """Channels and number of blocks of the image encoder in a file; None without an encoder."""
    empty = torch.empty(0)
    (position,) = layout.to_theirs({'backbone.pos_embed': empty})
    blocks = layout.to_theirs({f'backbone.blocks.{i}.norm1.weight': empty for i in range(_MAX_DEPTH)})
    there = [i for i, name in enumerate(blocks) if name in weights]
    return (weights[position].shape[-1], there[-1] + 1) if position in weights and there else None


def arch_of(size: tuple[int, int], architectures: Mapping[str, dict]) -> str | None:
    """Name of the architecture with these numbers of channels and blocks; None if there is none."""
    sizes = {(sizes['embed_dims'], sizes['depth']): name for name, sizes in architectures.items()}
    return sizes.get(size)


def name_size(size: tuple[int, int], architectures: Mapping[str, dict]) -> str:
    """What to call an encoder: 'ViT-L (large)', or its channels and blocks if the size has no name."""
    arch = arch_of(size, architectures)
    return f'ViT-{arch[0].upper()} ({arch})' if arch else f'a ViT of {size[0]} channels and {size[1]} blocks'


def check_size(size: tuple[int, int] | None, module: nn.Module, source: str) -> None:
    """Check that the encoder in a file has the size of a `SAMViT`; other modules and files without encoder pass.

    Raises:
        InputError: They differ in channels or number of blocks.
    """
    archs = getattr(module, 'ARCHITECTURES', None)
    if archs is None or size is None:
        return
    asked = cast(tuple[int, int], (module.embed_dims, module.depth))
    if size == asked:
        return
    arch = arch_of(asked, archs)
    wanted = f'arch={arch!r}' if arch else name_size(asked, archs)
    raise InputError(
        f'{source} is {name_size(size, archs)}, the config asks for {wanted}: change arch, or name weights of that size'
    )
