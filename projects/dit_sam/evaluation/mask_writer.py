"""Predicted masks as files, for scoring elsewhere."""

import logging
import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS

from ..utils import atomic_write, cut_name, decode_rle, encode_rle, name_part, wrap_write_errors
from .mmdet_samples import split_by_sentence

# Together with the id, a number and the suffix below the 255 bytes that file systems allow.
_STEM_BYTES = 180


@dataclass(frozen=True)
class Answer:
    """A predicted mask: the name that its file should have, what tells it from others of that name, and its RLE."""

    name: str
    place: tuple[str, int, str]
    rle: dict[str, Any]


@METRICS.register_module()
class MaskWriter(BaseMetric):
    """Write each predicted mask as a PNG: 255 on the object, 0 elsewhere, at the size of the original image.

    A file is called ``{name of the image}_{sent_id}.png``, or without the id where items have none. Where that is the
    name of several answers, as joined data sets may have the same names and ids, the first by the path of its image
    (then by its place in its set) has it, and the others end in ``_2``, ``_3``, …, whatever the number of processes.

    It is a metric that scores nothing, because metrics are what sees every prediction; ``tools/test.py --out`` adds it.
    The first process writes when all is predicted, as only then it is known which names are shared.

    Args:
        output_dir (str): Folder for the files; made when the first one is written.
        **kwargs: Arguments of ``BaseMetric``.

    Raises:
        InputError: The folder cannot be written to.
    """

    def __init__(self, output_dir: str, **kwargs: Any) -> None:
        super().__init__(prefix='MaskWriter', **kwargs)
        self.output_dir = output_dir

    def score_names(self) -> list[str]:
        """There is no score."""
        return []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the masks of a batch; ``pred_sem_seg.data`` is (1, H, W) with values 0 and 1."""
        # One entry for each item of the data set: of more, mmengine drops those that seem to be padding.
        self.results += [tuple(map(_answer, split_by_sentence(sample))) for sample in data_samples]

    def compute_metrics(self, results: list[tuple[Answer, ...]]) -> dict[str, float]:
        """Write the masks of all processes. There is nothing to score."""
        answers = sorted((answer for item in results for answer in item), key=lambda answer: answer.place)
        names = distinct([answer.name for answer in answers])
        for name, answer in zip(names, answers):
            png = cv2.imencode('.png', decode_rle(answer.rle).astype(np.uint8) * 255)[1]
            path = osp.join(self.output_dir, f'{name}.png')
            with wrap_write_errors(path), atomic_write(path) as temporary:
                temporary.write_bytes(png.tobytes())
        shared = [(name, answer) for name, answer in zip(names, answers) if name != answer.name]
        if shared:
            name, answer = shared[0]
            print_log(
                f'{len(shared)} of {len(names)} masks in {self.output_dir} have names that others have too, and '
                f'a number behind: {name}.png is of {answer.place[0]}',
                logger='current',
                level=logging.WARNING,
            )
        return {}


def _answer(sample: dict) -> Answer:
    name = cut_name(osp.splitext(osp.basename(sample['img_path']))[0], _STEM_BYTES)
    if 'sent_id' in sample:
        name += f'_{name_part(sample["sent_id"])}'
    place = (str(sample['img_path']), sample.get('sample_idx', 0), str(sample.get('text')))
    return Answer(name, place, encode_rle(sample['pred_sem_seg']['data'][0].cpu().numpy() == 1))


def distinct(names: Sequence[str]) -> list[str]:
    """The names; of those that differ in case at most, all but the first get a number that makes a name of no other."""
    taken, found = {name.casefold() for name in names}, []
    last: dict[str, int] = {}
    for name in names:
        key = name.casefold()
        number = last.get(key, 0) + 1
        while number > 1 and f'{key}_{number}' in taken:
            number += 1
        last[key] = number
        found.append(name if number == 1 else f'{name}_{number}')
        taken.add(found[-1].casefold())
    return found
