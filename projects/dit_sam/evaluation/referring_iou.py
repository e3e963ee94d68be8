"""The scores of referring image segmentation as a metric of mmengine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS
from torch import Tensor

from ..errors import InputError, log_warning
from ..utils import check_file, encode_rle
from .dump import dump_line, write_dump
from .protocols import PROTOCOLS, split_by_sentence, unexpected_values
from .scores import NAMES, REFERENCE_NAMES, THRESHOLDS, Areas, group_score, reference_scores, score_table, scores_of


@dataclass(frozen=True)
class Result:
    """The result for one sentence: its areas, group, line in the dump, index in the data set, and reference."""

    areas: Areas
    group: str | None = None
    line: dict | None = None
    index: int | None = None
    reference: tuple | None = None


@METRICS.register_module()
class ReferringIoU(BaseMetric):
    """The scores of referring image segmentation, in percent.

    * `oIoU`: sum of the intersections / sum of the unions over all sentences (cIoU in mmdet and ReLA).
    * `mIoU`: mean of the IoU over all sentences.
    * `P@X`: share of sentences with IoU > X, for X in 0.5, 0.6, 0.7, 0.8, 0.9.

    With `generalized`, for sentences that may mean nothing or several objects, the scores of gRefCOCO (Liu et al.,
    GRES, CVPR 2023), as its authors' code ReLA computes them:

    * `gIoU`, `cIoU`: as `mIoU` and `oIoU`. If the sentence means nothing, an empty prediction has IoU 1 and
      adds nothing to the sums; any other has IoU 0 and adds its area to the union.
    * `N-acc`: share of the sentences without a target for which nothing is predicted.
    * `T-acc`: share of the sentences with a target for which something is predicted.
    * `P@X`: share of the sentences **with a target** with IoU >= X.

    With `by_reference`, two scores of R-RefCOCO (Wu et al., Toward Robust RIS, IEEE TIP 2024) are added, see
    `reference_scores`:

    * `rIoU`: mean over the references of sum of the intersections / sum of the unions over its sentences.
    * `mRR`: mean over the references of the share of its sentences without a target for which nothing is predicted.

    An empty prediction is a mask without a pixel. A sentence means nothing if its annotation says so, `no_target` in
    `metainfo`; without that key, if the true mask has no pixel. A target that is annotated but has no pixel is a
    target: its IoU is 0. Pixels whose true label is 255 do not count. Pixels are counted on the device of the
    predictions. The data samples may be mmdet's, in the form that its `RefSegMetric` takes, see `split_by_sentence`.

    Args:
        group_by: A key of `metainfo`, such as `kind`. For each of its values `mIoU/{value}`, or
            `gIoU/{value}`, is reported too, see `group_score`. Items without the key count only in the total.
        protocol: `original` compares at the size of the original image. `lavt480` stretches prediction and truth
            to 480 x 480, and counts IoU = X for P@X, as LAVT does. `rela480` compares there with the truth drawn from
            polygons scaled to that square, as ReLA does; this needs `keep_outlines=True` in the data set and
            `scaled_side=480` in its `LoadReferringMask`. `dit` resizes binary masks, as the released DIT
            does; this needs the probabilities, `model.test_cfg.keep_input_probabilities=True`.
        generalized: See above.
        by_reference: See above. Sentences with one `img_path` and `ref_id` belong together.
        empty_iou: IoU of an empty prediction for a sentence that means nothing: 1, or 0 as in LAVT.
        min_area: A prediction with fewer pixels counts as empty. GRES clears masks of fewer than 50 pixels for
            methods that do not decide on "no target" themselves.
        dump: A file for one line of JSON per sentence, in the order of the data set; it replaces a former one.
            With `dump_masks`, `dit-sam score` reads it.
        dump_masks: Whether the lines hold the masks, at the size of the original image.
        collect_device: How the results of several ranks are gathered: `gpu` exchanges them, also on CPUs; `cpu` writes
            them to `collect_dir`, by default in the current folder, which all machines then must share.
        prefix: Precedes the names of the scores, with a slash. No part of it may be the name of a score.
        **kwargs: As in `BaseMetric`: `collect_dir`.

    Raises:
        InputError: The protocol is unknown or lacks what it needs, the prefix names a score, a prediction and its truth
            differ in shape or have other values than the masks of one object, or there is nothing to score.
    """

    def __init__(
        self,
        group_by: str | None = None,
        protocol: str = 'original',
        generalized: bool = False,
        by_reference: bool = False,
        empty_iou: float = 1.0,
        min_area: int = 0,
        dump: str | None = None,
        dump_masks: bool = False,
        collect_device: str = 'gpu',
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        # mmengine adds a slash; with 'val/' there would be two.
        super().__init__(collect_device=collect_device, prefix=prefix and prefix.strip('/'), **kwargs)
        if protocol not in PROTOCOLS:
            raise InputError(f"ReferringIoU has no protocol '{protocol}': choose one of {', '.join(PROTOCOLS)}")
        if dump_masks and dump is None:
            raise InputError('ReferringIoU: dump_masks=True needs a file, dump=FILE.jsonl')
        if dump is not None:
            check_file(dump)
        # Otherwise `mIoU/oIoU` could also be the score of a group "oIoU" in another metric.
        if taken := {*NAMES, *REFERENCE_NAMES}.intersection((prefix or '').split('/')):
            raise InputError(f'ReferringIoU: prefix={prefix!r} names the score {min(taken)}: choose another prefix')
        if empty_iou not in (0, 1):
            raise InputError(f'ReferringIoU: empty_iou is 0 or 1, got {empty_iou!r}')
        self.group_by, self.protocol, self.generalized, self.min_area = group_by, protocol, generalized, min_area
        self.comparison, self.empty_iou = PROTOCOLS[protocol], float(empty_iou)
        self.dump, self.dump_masks, self.by_reference = dump, dump_masks, by_reference
        self._warned = False

    @property
    def mean(self) -> str:
        """The name of the mean IoU."""
        return 'gIoU' if self.generalized else 'mIoU'

    def score_names(self) -> list[str]:
        """The names of the scores of all sentences, as they are reported."""
        names = NAMES[2:] if self.generalized else NAMES[:2] + NAMES[-len(THRESHOLDS) :]
        names += REFERENCE_NAMES * self.by_reference
        return [f'{self.prefix}/{name}' if self.prefix else name for name in names]

    def group_names(self, dataset: Any) -> list[str]:
        """The names of the scores of a data set's groups, as they are reported; none without `group_by`."""
        if self.group_by is None:
            return []
        # The last step of a pipeline passes on some keys of an item.
        pipelines = [getattr(one, 'pipeline', None) for one in getattr(dataset, 'datasets', [dataset])]
        steps = [step for pipeline in pipelines for step in getattr(pipeline, 'transforms', ())]
        passed = [step.meta_keys for step in steps if hasattr(step, 'meta_keys')]
        if passed and not any(self.group_by in keys for keys in passed):
            return []
        groups = {dataset.get_data_info(index).get(self.group_by) for index in range(len(dataset))} - {None}
        mean = f'{self.prefix}/{self.mean}' if self.prefix else self.mean
        return sorted(group_score(mean, str(group)) for group in groups)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each item, and keep what the scores and the dump need."""
        items = [list(split_by_sentence(sample)) for sample in data_samples]
        results = iter(self._results([sentence for item in items for sentence in item]))
        # One entry for each item of the data set, as mmengine drops surplus entries as padding.
        self.results += [tuple(islice(results, len(item))) for item in items]

    def _results(self, sentences: Sequence[dict]) -> Iterator[Result]:
        pairs = [self.comparison.masks(sentence) for sentence in sentences]
        counts = [self._count(sentence, *pair) for sentence, pair in zip(sentences, pairs)]
        # One transfer per batch from the device of the masks.
        rows = torch.stack(counts).tolist() if counts else []
        for sample, pair, (intersection, prediction, truth, drawn, *unexpected) in zip(sentences, pairs, rows):
            self._check_values(sample, *unexpected)
            no_target = sample.get('no_target', not drawn)
            areas = Areas(intersection, prediction, truth, bool(no_target), self.empty_iou)
            group = sample.get(self.group_by)
            line = self._line(sample, areas, *pair) if self.dump else None
            reference = (sample.get('img_path'), sample.get('ref_id'))
            yield Result(areas, None if group is None else str(group), line, sample.get('sample_idx'), reference)

    def compute_metrics(self, results: list[tuple[Result, ...]]) -> dict[str, float]:
        """The scores of the results of all ranks, in percent."""
        sentences = [result for item in results for result in item]
        if not sentences:
            raise InputError('ReferringIoU has nothing to score: the data loader gave no item')
        total = self._row(sentences)
        if self.by_reference:
            references: dict[tuple | None, list[Areas]] = {}
            for result in sentences:
                references.setdefault(result.reference, []).append(result.areas)
            total[1].update(reference_scores(references.values()))
        groups: dict[str, list[Result]] = {}
        for result in sentences:
            if result.group is not None:
                groups.setdefault(result.group, []).append(result)
        if self.group_by is not None and not groups:
            log_warning(
                f'ReferringIoU: group_by={self.group_by!r} is in the metadata of no item, so there are no groups: name '
                'a key that the data have and PackReferringInputs passes on, by its meta_keys'
            )
        rows = {group: self._row(groups[group]) for group in sorted(groups)}
        table = score_table(self.group_by or 'Sentences of', total, rows)
        print_log(f'\n{table}', logger=MMLogger.get_current_instance())
        if self.dump:
            write_dump(self.dump, [result.line for result in in_order(sentences) if result.line is not None])
        means = {group_score(self.mean, group): scores[self.mean] for group, (_, scores) in rows.items()}
        return {**total[1], **means}

    def _count(self, sample: dict, prediction: Tensor, truth: Tensor) -> Tensor:
        """Intersection, areas of prediction and truth, whether the truth has a pixel, and `unexpected_values`, (7,)."""
        drawn = truth.any()
        prediction, truth = self.comparison.compared(sample, prediction, truth)
        prediction = prediction & (prediction.sum() >= self.min_area)
        areas = [(prediction & truth).sum(), prediction.sum(), truth.sum(), drawn.long()]
        return torch.cat([torch.stack(areas), unexpected_values(sample, prediction.device).long()])

    def _check_values(self, sample: dict, prediction: int, truth: int, ignored: int) -> None:
        """Refuse masks with values that would count as outside; warn once if a truth may be a file of 0 and 255."""
        what = 'prediction' if prediction else 'truth'
        named = f'"{sample.get("text")}" of {sample.get("img_path")}'
        if prediction or truth:
            found = sample['pred_sem_seg' if prediction else 'gt_sem_seg']['data'].unique()[:5].tolist()
            raise InputError(
                f'the {what} for {named} has the values {", ".join(f"{value:g}" for value in found)}: masks have 1 in '
                'the object and 0 outside, and the truth 255 where pixels do not count'
            )
        if ignored and not self._warned:
            self._warned = True
            log_warning(
                f'the truth for {named} has the value 255, which means that pixels do not count, and no 1: if 255 is '
                'the object, make it 1'
            )

    def _line(self, sample: dict, areas: Areas, prediction: Tensor, truth: Tensor) -> dict:
        pixels = self.comparison.side**2 if self.comparison.side else truth.numel()
        line = dump_line(sample, areas, self.protocol, truth.shape[1:], pixels)
        if self.dump_masks:
            # At the size of a protocol a real mask may have no pixel.
            counted = prediction if areas.prediction or not self.min_area else torch.zeros_like(prediction)
            line.update(prediction=encode_rle(counted[0].cpu().numpy()), truth=encode_rle(truth[0].cpu().numpy()))
        return line

    def _row(self, results: list[Result]) -> tuple[int, dict[str, float]]:
        areas = [result.areas for result in results]
        return len(areas), scores_of(areas, self.generalized, self.comparison.inclusive)


def in_order(results: list[Result]) -> list[Result]:
    """Sort results by their index in the data set, if all are known and distinct; joined sets share indices."""
    by_index = {result.index: result for result in results if result.index is not None}
    return [by_index[index] for index in sorted(by_index)] if len(by_index) == len(results) else results
