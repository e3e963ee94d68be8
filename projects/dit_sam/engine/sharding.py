"""Training in shards by FSDP."""

from mmengine._strategy import FSDPStrategy
from mmengine.dist import get_world_size
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

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
            model=self.model, optim=optimizer, optim_state_dict=state_dict
        )
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


def copies_of_gradients(model: nn.Module) -> dict[nn.Parameter, int]:
    """On how many ranks the same part of each gradient lies, for a model with FSDP in it.

    With FULL_SHARD it is one, with HYBRID_SHARD one in each group of ranks that holds the whole model. Gradients
    without shards (NO_SHARD, or parameters that FSDP was told to ignore) lie on all ranks. Empty where nothing is in
    shards.

    Args:
        model: The model, before the forward pass, when its parameters are the shards.
    """
    units = FullyShardedDataParallel.fsdp_modules(model)
    if all(unit.sharding_strategy is ShardingStrategy.NO_SHARD for unit in units):
        return {}
    copies = {}
    # From the outside in: the innermost unit has the parameter.
    for unit in units:
        is_whole = unit.sharding_strategy is ShardingStrategy.NO_SHARD
        ranks = 1 if is_whole else unit.process_group.size()
        copies.update(dict.fromkeys(unit.parameters(), get_world_size() // ranks))
    for unit in units:
        copies.update(dict.fromkeys(unit._ignored_params, get_world_size()))
    return copies
