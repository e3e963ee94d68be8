"""Training in shards by FSDP."""
from mmengine._strategy import FSDPStrategy
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..models.layers import InstructedBlock


@STRATEGIES.register_module()
class ResumableFSDPStrategy(FSDPStrategy):
    """`FSDPStrategy` that resumes.

    mmengine (0.10.7) hands over the optimizer's state as torch 2.0 wanted it, and ends in an error from 2.1 on.
    Arguments as in the parent.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take each rank's shards out of the state of the whole optimizer."""
        optimizer = self.optim_wrapper.optimizer
        shards = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=optimizer, optim_state_dict=state_dict)
        self.optim_wrapper.load_state_dict(shards)


@FUNCTIONS.register_module()
def wrap_instructed_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """The wrap policy: one unit for every block of the image encoder, and one for all the rest.

    Other parts may not be units of their own: FSDP gathers a unit in its `forward`, and instructions and heads are
    also called by other methods.

    Args:
        module: A module of the model.
        recurse: Whether FSDP asks if it shall look at the module's children, and not if the module is a unit.
        nonwrapped_numel: As in torch's policies; not used.
    """
    return recurse or isinstance(module, InstructedBlock)
