from math import fsum
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable

Result = Tuple[int, int, Optional[str]]


@METRICS.register_module()
class ReferringIoU(BaseMetric):
    """The scores of referring image segmentation, in percent.

    * ``oIoU``: sum of the intersections / sum of the unions over all sentences (cIoU in mmdet and ReLA).
    * ``mIoU``: mean of the IoU over all sentences.
    * ``P@X``: share of sentences with IoU > X, for X in 0.5, 0.6, 0.7, 0.8, 0.9.

    Prediction and truth are compared at the size at which they come, which is the original one. An empty prediction for
    an empty truth has IoU 1, the convention of gRefCOCO, and adds nothing to the sums of oIoU.

    Args:
        group_by (str, optional): A key of ``metainfo``, such as ``kind``; for each of its values ``mIoU/{value}`` is
            reported too. Items without the key count in the total only.
        collect_device (str): ``cpu`` or ``gpu``, where the results of several ranks are gathered.
        prefix (str, optional): Put before the names of the scores.

    Raises:
        ValueError: When a prediction and its truth differ in shape, or when there is nothing to score.
    """

    thresholds = (0.5, 0.6, 0.7, 0.8, 0.9)

    def __init__(self,
                 group_by: Optional[str] = None,
                 collect_device: str = 'cpu',
                 prefix: Optional[str] = None,
                 **kwargs) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        self.group_by = group_by

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store (intersection, union, group) of each item: areas in pixels, counted where the masks are."""
        areas = torch.stack([self._areas(sample) for sample in data_samples]).tolist()
        groups = [sample.get(self.group_by) for sample in data_samples]
        self.results.extend((inter, union, group) for (inter, union), group in zip(areas, groups))

    def compute_metrics(self, results: List[Result]) -> Dict[str, float]:
        """Scores of the results of all ranks, as floats in percent."""
        if not results:
            raise ValueError('ReferringIoU has nothing to score: the data loader gave no item')
        scores = self._scores(results)
        rows = {'all': (len(results), scores)}
        for group in sorted({str(group) for *_, group in results if group is not None}):
            members = [result for result in results if result[2] is not None and str(result[2]) == group]
            rows[group] = (len(members), self._scores(members))
        groups = {f'mIoU/{group}': row['mIoU'] for group, (_, row) in list(rows.items())[1:]}
        self._print(rows)
        return {**scores, **groups}

    @staticmethod
    def _areas(sample: dict) -> torch.Tensor:
        prediction, truth = sample['pred_sem_seg']['data'], sample['gt_sem_seg']['data']
        if prediction.shape != truth.shape:
            raise ValueError(f'The prediction has shape {tuple(prediction.shape)} and the truth '
                             f'{tuple(truth.shape)} for "{sample.get("text")}" (sentence {sample.get("sent_id")}) of '
                             f'{sample.get("img_path")}: both must have the size of the original image')
        prediction, truth = prediction == 1, truth.to(prediction.device) == 1
        return torch.stack([(prediction & truth).sum(), (prediction | truth).sum()])

    def _scores(self, results: List[Result]) -> Dict[str, float]:
        # Python integers and `fsum` are exact, so that neither order nor split over ranks changes a score.
        ious = [inter / union if union else 1.0 for inter, union, _ in results]
        total_inter, total_union = sum(result[0] for result in results), sum(result[1] for result in results)
        scores = dict(
            oIoU=total_inter / total_union * 100 if total_union else 100.0, mIoU=fsum(ious) / len(ious) * 100)
        for threshold in self.thresholds:
            scores[f'P@{threshold}'] = sum(iou > threshold for iou in ious) / len(ious) * 100
        return scores

    def _print(self, rows: Dict[str, Tuple[int, Dict[str, float]]]) -> None:
        table = PrettyTable([self.group_by or 'Sentences of', 'Number', *rows['all'][1]])
        for name, (number, scores) in rows.items():
            table.add_row([name, number, *(f'{score:.2f}' for score in scores.values())])
        print_log('\n' + table.get_string(), logger=MMLogger.get_current_instance())
