"""Predicted masks as files, for scoring elsewhere."""
import os
import os.path as osp
from typing import Any, Dict, Sequence

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class MaskWriter(BaseMetric):
    """Write each predicted mask as a PNG: 255 on the object, 0 elsewhere, at the size of the original image.

    A file is called ``{name of the image}_{sent_id}.png``, or without the id where items have none. It is a metric
    that scores nothing, because metrics are what sees every prediction; ``tools/test.py --out`` adds it.

    Args:
        output_dir (str): Folder for the files; made when the first one is written.
        **kwargs: Arguments of ``BaseMetric``.
    """

    def __init__(self, output_dir: str, **kwargs: Any) -> None:
        super().__init__(prefix='MaskWriter', **kwargs)
        self.output_dir = output_dir

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the masks of a batch; ``pred_sem_seg.data`` is (1, H, W) with values 0 and 1."""
        os.makedirs(self.output_dir, exist_ok=True)
        for sample in data_samples:
            stem = osp.splitext(osp.basename(sample['img_path']))[0]
            name = f"{stem}_{sample['sent_id']}.png" if 'sent_id' in sample else f'{stem}.png'
            mask = sample['pred_sem_seg']['data'][0].cpu().numpy().astype(np.uint8) * 255
            path = osp.join(self.output_dir, name)
            if not cv2.imwrite(path, mask):
                raise OSError(f'could not write {path}')
            self.results.append(name)

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """There is nothing to score."""
        return {}
