"""Weights of another model are refused."""

from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ...utils import state_dict_mismatch
from ..checkpoint_loader import CheckpointError
from ..ranks import told_by_rank_0


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Stop where a checkpoint does not fit the model weight by weight.

    mmengine loads what fits, warns of the rest and goes on; a test then scores weights that are partly random.

    Args:
        strict: False leaves it to mmengine, for a training that starts from weights which fit in part:
            `--cfg-options default_hooks.checkpoint_fit.strict=False`.
    """

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the weights that were read with those of the model.

        Raises:
            CheckpointError: Weights are missing, unknown, of another shape or type, or not finite; all are listed.
        """
        if not self.strict:
            return
        if isinstance(runner.model, FullyShardedDataParallel):
            # Its modules have shards. The whole weights are gathered on rank 0.
            expected = runner.model.state_dict()
            misfit = told_by_rank_0(lambda: _misfit(expected, checkpoint))
        else:
            model = runner.model
            # What averages several views of a picture has no weights of its own; mmengine too looks into it.
            while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
                model = model.module
            misfit = _misfit(model, checkpoint)
        if misfit:
            raise CheckpointError(f'the checkpoint and the config belong to different models: {misfit}')


def _misfit(expected: nn.Module | Mapping[str, Tensor], checkpoint: dict) -> str:
    """What the weights of a checkpoint and those that a model expects differ in; '' for nothing."""
    # Where mmengine looks for them.
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else {}
    return state_dict_mismatch(
        expected,
        {str(name).removeprefix('module.'): value for name, value in weights.items() if isinstance(value, Tensor)},
    )
