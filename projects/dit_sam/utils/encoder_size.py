"""Which of SAM's sizes a file holds, told from the weights of the image encoder."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import InputError
from .state_dict_maps import StateDictMap

# More than SAM's deepest encoder has.
_MAX_DEPTH = 100


def encoder_size(weights: Mapping[str, Tensor], layout: StateDictMap) -> tuple[int, int] | None:
    """Channels and number of blocks of the image encoder in a file; None where there is no encoder.

    Args:
        weights: Weights by the names of `layout`.
        layout: How they are named.
    """
    (position,) = layout.to_theirs({'backbone.pos_embed': None})
    blocks = layout.to_theirs({f'backbone.blocks.{i}.norm1.weight': None for i in range(_MAX_DEPTH)})
    there = [i for i, name in enumerate(blocks) if name in weights]
    return (weights[position].shape[-1], there[-1] + 1) if position in weights and there else None


def arch_of(size: tuple[int, int], architectures: Mapping[str, dict]) -> str | None:
    """Name of the architecture with that many channels and blocks; None where there is none."""
    sizes = {(sizes['embed_dims'], sizes['depth']): name for name, sizes in architectures.items()}
    return sizes.get(size)


def name_size(size: tuple[int, int], architectures: Mapping[str, dict]) -> str:
    """What to call an encoder: 'ViT-L (large)', or by its channels and blocks where the size has no name."""
    arch = arch_of(size, architectures)
    return f'ViT-{arch[0].upper()} ({arch})' if arch else f'a ViT of {size[0]} channels and {size[1]} blocks'


def check_size(size: tuple[int, int] | None, module: nn.Module, source: str) -> None:
    """Compare the encoder in a file with the one that a config asks for.

    Args:
        size: See `encoder_size`; without an encoder in the file there is nothing to compare.
        module: A `SAMViT`; modules of other kinds pass.
        source: What to call the file in errors.

    Raises:
        InputError: They differ in channels or number of blocks.
    """
    archs = getattr(module, 'ARCHITECTURES', None)
    if archs is None:
        return
    asked = (module.embed_dims, module.depth)
    if size in (None, asked):
        return
    arch = arch_of(asked, archs)
    wanted = f'arch={arch!r}' if arch else name_size(asked, archs)
    raise InputError(
        f'{source} is {name_size(size, archs)}, the config asks for {wanted}: change arch, or name weights of that size'
    )
