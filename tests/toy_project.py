"""The smallest project that the standard tools can run: it learns y = 2x, and 'mIoU' is 100 minus the mean error.

Its "pictures" are called 0.jpg to 7.jpg, its "mask" is one pixel, set where the prediction is 1 or more.
"""

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmseg.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn


@DATASETS.register_module()
class ToyDataset(BaseDataset):
    def __init__(self, missing_file=None, items=8, **kwargs):
        self.missing_file, self.items = missing_file, items
        super().__init__(serialize_data=False, **kwargs)

    def load_data_list(self):
        return [dict(x=step / 8, y=step / 4) for step in range(self.items)]

    def prepare_data(self, index):
        if self.missing_file is not None:
            raise FileNotFoundError(f'{self.missing_file} is missing')
        item = self.get_data_info(index)
        return dict(x=torch.tensor([item['x']]), y=torch.tensor([item['y']]), number=index)


@MODELS.register_module()
class ToyModel(BaseModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.linear = nn.Linear(1, 1)

    def forward(self, x, y, number, mode='tensor'):
        prediction = self.linear(torch.stack(list(x))).float()
        error = (prediction - torch.stack(list(y))) ** 2
        if mode == 'loss':
            return dict(loss=error.mean())
        return [
            dict(
                error=one_error.item(),
                img_path=f'{one_number}.jpg',
                sent_id=10 + int(one_number),
                pred_sem_seg=dict(data=(one >= 1).reshape(1, 1, 1).long()),
            )
            for one, one_error, one_number in zip(prediction, error, number)
        ]


@METRICS.register_module()
class ToyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [sample['error'] for sample in data_samples]

    def compute_metrics(self, results):
        assert len(results) == 8
        # A numpy scalar on purpose: mmengine puts the best score into the checkpoint.
        return dict(mIoU=np.float64(100 - np.mean(results)))


@HOOKS.register_module()
class VisitHook(Hook):
    """Print the items of each step as `visits STEP: ITEM, ITEM`."""

    def before_train_iter(self, runner, batch_idx, data_batch):
        print(f'visits {runner.iter}: {", ".join(str(int(number)) for number in data_batch["number"])}')
