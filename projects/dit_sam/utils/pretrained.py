"""Weights into a model, completely or not at all."""
from collections.abc import Mapping

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..errors import InputError

SAM_REMEDY = ("SAM's weights are under \"Model Checkpoints\" in the README of github.com/facebookresearch/"
              'segment-anything; put them into checkpoints/, or set init_cfg=None to start from random weights')


def load_sam_weights(module: nn.Module, checkpoint: str, parts: Mapping[str, str], own: tuple[str, ...] = ()) -> None:
    """Load the weights of SAM that belong to `module` from SAM's own file.

    Args:
        module: A backbone or head with SAM's state-dict names.
        checkpoint: `sam_vit_{b,l,h}_*.pth`, or any file that holds such names.
        parts: Prefixes in the file, and the prefixes in `module` that they stand for.
        own: Prefixes of weights that SAM does not have and that stay as they are.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: Weights are missing, unknown or of another shape; all are listed.
    """
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except FileNotFoundError:
        raise FileNotFoundError(f'checkpoint {checkpoint} not found: {SAM_REMEDY}') from None
    loaded = loaded.get('state_dict', loaded)
    state_dict = {
        ours + name.removeprefix(theirs): value
        for theirs, ours in parts.items() for name, value in loaded.items() if name.startswith(theirs)
    }
    misfit = describe_misfit(module, state_dict, own)
    if misfit:
        raise InputError(f'checkpoint {checkpoint} does not fit {type(module).__name__}: {misfit}')
    module.load_state_dict(state_dict, strict=False)


def describe_misfit(module: nn.Module, state_dict: Mapping[str, Tensor], own: tuple[str, ...] = ()) -> str:
    """What keeps a state dict from fitting a module, in one line; '' where it fits.

    Args:
        module: The module.
        state_dict: Weights by the names of the module.
        own: Prefixes of weights that may be missing.
    """
    expected = {name: value.shape for name, value in module.state_dict().items() if not name.startswith(own)}
    missing = sorted(expected.keys() - state_dict.keys())
    unknown = sorted(state_dict.keys() - module.state_dict().keys())
    misshapen = [
        f'{name} is {tuple(state_dict[name].shape)}, not {tuple(shape)}' for name, shape in expected.items()
        if name in state_dict and state_dict[name].shape != shape
    ]
    lists = (('missing', missing), ('unknown', unknown), ('of another shape (another arch?)', misshapen))
    return '; '.join(f'{len(names)} weights {what}: {", ".join(names)}' for what, names in lists if names)
