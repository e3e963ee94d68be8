"""The losses in the log are those of all ranks."""
from mmengine.dist import all_reduce_dict, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Average what a step gives out over the ranks before it is logged.

    mmengine logs the losses of rank 0 alone, so that the curve of a training depends on the number of ranks.
    """

    # Behind FiniteStepHook (HIGHEST, 0), before RuntimeInfoHook (VERY_HIGH, 10), which takes the values for the log.
    priority = 5

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Replace the values of `outputs`, scalars by name, by their means."""
        if get_world_size() == 1 or not outputs:
            return
        means = {name: value.detach().float() for name, value in outputs.items()}
        all_reduce_dict(means, op='mean')
        outputs.update(means)
