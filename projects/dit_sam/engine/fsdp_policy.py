"""Which modules of a model FSDP shards as one unit."""

from mmengine.registry import FUNCTIONS
from torch import nn

from ..models.layers import InstructedBlock


@FUNCTIONS.register_module()
def wrap_instructed_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """Make every block of the image encoder a unit of FSDP, and all the rest one more.

    Other parts may not be units of their own: FSDP gathers a unit in its `forward`, and instructions and heads are
    also called by other methods.

    Args:
        module: A module of the model.
        recurse: Whether FSDP asks about the children of the module, and not about the module itself.
        nonwrapped_numel: As in torch's policies; not used.
    """
    return recurse or isinstance(module, InstructedBlock)
