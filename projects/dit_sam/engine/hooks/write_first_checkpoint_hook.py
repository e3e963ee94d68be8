"""Old checkpoints go when the new ones are on the disk, not before."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..atomic_local_backend import checkpoints_straight_to_disk
from ..latest_checkpoint import remove_old_stops


class LateRemoval:
    """A file backend whose removals wait for `flush`; all else is the backend's own.

    Args:
        backend: One of mmengine's file backends.
    """

    def __init__(self, backend: Any) -> None:
        self._backend, self._waiting = backend, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Remove a file at the next `flush`."""
        self._waiting.append(path)

    # DeepSpeed's checkpoints are folders.
    rmtree = remove

    def flush(self, keep: set[str]) -> None:
        """Remove what waits, but for the paths to keep, which were written anew."""
        for path in self._waiting:
            if path not in keep:
                (self._backend.rmtree if self._backend.isdir(path) else self._backend.remove)(path)
        self._waiting.clear()


def _leave_file(wrapper: Any) -> None:
    """Copy what an optimizer took over from the checkpoint that is resumed, on a CPU as it lies in the mapped file.

    A file that is removed keeps its place on the disk as long as it is mapped, and one that somebody copies over would
    change the training.
    """
    for each in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
        for state in each.optimizer.state.values() if isinstance(each, OptimWrapper) else ():
            state.update(
                {
                    name: value.clone()
                    for name, value in state.items()
                    if isinstance(value, Tensor) and value.device.type == 'cpu'
                }
            )


@HOOKS.register_module()
class WriteFirstCheckpointHook(CheckpointHook):
    """`CheckpointHook` that loses nothing to a full disk or a kill in mid-save.

    mmengine removes the oldest checkpoint and the previous best one, and then writes. Here it is the other way round,
    and a checkpoint is written without a copy of it in memory.
    The scores of a validation go into the checkpoints that are written after it, under `scores` in the message hub's
    `runtime_info`, with the epoch that they belong to. Arguments as in the parent.
    """

    def before_train(self, runner: Runner) -> None:
        """As in the parent."""
        super().before_train(runner)
        self.file_backend = LateRemoval(self.file_backend)
        _leave_file(runner.optim_wrapper)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Note the scores, then save the best checkpoint."""
        scores = {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}
        runner.message_hub.update_info('scores', dict(scores, epoch=runner.epoch))
        with checkpoints_straight_to_disk():
            super().after_val_epoch(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Set the counters right: mmengine's FlexibleRunner counts an epoch more after a validation."""
        if runner.message_hub.runtime_info.get('loop_stage') == 'val':
            checkpoint['meta'].update(epoch=runner.epoch, iter=runner.iter)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with checkpoints_straight_to_disk():
            super()._save_checkpoint_with_step(runner, step, meta)
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        self.file_backend.flush({self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best})
        if is_main_process():
            remove_old_stops(runner.work_dir)
