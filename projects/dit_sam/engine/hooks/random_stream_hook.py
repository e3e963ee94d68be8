"""Random numbers that are a function of the seed and of the place in the training."""
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch.utils.data import Dataset

from ...random_streams import seed_all


@HOOKS.register_module()
class RandomStreamHook(Hook):
    """Seed every step by (seed, rank, step) and every item by (seed, epoch, index).

    So a resumed run draws what the uninterrupted one drew, with nothing to save, and neither the number of data-loading
    workers nor a validation in between changes a training. Items are seeded by the data set, see `TrainingItems`.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the data sets the epoch."""
        for dataset in _leaves(runner.train_dataloader.dataset):
            if hasattr(dataset, 'set_stream'):
                dataset.set_stream(runner.seed, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Seed what the model draws in this step."""
        seed_all(runner.seed, get_rank(), runner.iter)


def _leaves(dataset: Dataset) -> list[Dataset]:
    """The data sets in wrappers such as ConcatDataset."""
    inner = getattr(dataset, 'datasets', None) or ([dataset.dataset] if hasattr(dataset, 'dataset') else [])
    return [leaf for each in inner for leaf in _leaves(each)] if inner else [dataset]
