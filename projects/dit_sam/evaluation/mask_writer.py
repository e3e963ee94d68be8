"""Predicted masks as files, for scoring by other programs."""

import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from ..errors import InputError, log_warning
from ..utils import atomic_write, cut_name, decode_rle, encode_rle, name_part, wrap_write_errors
from .protocols import split_by_sentence

# With the id, a number and the suffix this stays below the 255 bytes that file systems allow.
_STEM_BYTES = 180


# No named tuple, which mmengine would make a plain one.
@dataclass(frozen=True)
class NamedMask:
    """A predicted mask as RLE, the name that its file should have, and what orders masks of the same name."""

    name: str
    order: tuple[str, int, str]
    rle: dict[str, Any]


@METRICS.register_module()
class MaskWriter(BaseMetric):
    """Write each predicted mask as a PNG: 255 on the object, 0 elsewhere, at the size of the original image.

    A file is called `{name of the image}_{sent_id}.png`, or without the id if items have none. Joined data sets may
    share names and ids. Then the first mask, by the path of its image and its index in its set, gets the name, and the
    others end in `_2`, `_3`, …, whatever the number of processes.

    It is a metric because metrics see every prediction, but it scores nothing. `tools/test.py --out` adds it. The
    first process writes all files at the end, when it is known which names are shared.

    Args:
        output_dir: Folder for the files; it is created if needed.
        collect_device: As in `ReferringIoU`.
        **kwargs: As in `BaseMetric`: `collect_dir`.

    Raises:
        InputError: The folder cannot be written to, or the predictions are no masks of one object.
    """

    def __init__(self, output_dir: str, collect_device: str = 'gpu', **kwargs: Any) -> None:
        super().__init__(collect_device=collect_device, prefix='MaskWriter', **kwargs)
        self.output_dir = output_dir

    def score_names(self) -> list[str]:
        """No scores."""
        return []

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the masks of a batch; `pred_sem_seg.data` is (1, H, W) with values 0 and 1."""
        # One entry for each item of the data set, as mmengine drops surplus entries as padding.
        self.results += [tuple(map(_named_mask, split_by_sentence(sample))) for sample in data_samples]

    def compute_metrics(self, results: list[tuple[NamedMask, ...]]) -> dict[str, float]:
        """Write the masks of all processes; there are no scores."""
        masks = sorted((mask for item in results for mask in item), key=lambda mask: mask.order)
        names = distinct_names([mask.name for mask in masks])
        for name, mask in zip(names, masks):
            png = cv2.imencode('.png', decode_rle(mask.rle).astype(np.uint8) * 255)[1]
            path = osp.join(self.output_dir, f'{name}.png')
            with wrap_write_errors(path), atomic_write(path) as temporary:
                temporary.write_bytes(png.tobytes())
        shared = [(name, mask) for name, mask in zip(names, masks) if name != mask.name]
        if shared:
            name, mask = shared[0]
            log_warning(
                f'{len(shared)} of {len(names)} masks in {self.output_dir} share their names with others and got '
                f'numbers: {name}.png belongs to {mask.order[0]}'
            )
        return {}


def mask_name(img_path: str, sent_id: Any = None) -> str:
    """The name of a mask's file without the suffix."""
    name = cut_name(osp.splitext(osp.basename(img_path))[0], _STEM_BYTES)
    return name if sent_id is None else f'{name}_{name_part(sent_id)}'


def _named_mask(sample: dict) -> NamedMask:
    labels = sample['pred_sem_seg']['data'][0].cpu().numpy() if 'pred_sem_seg' in sample else None
    if labels is None or labels.max() > 1:
        found = 'no mask' if labels is None else 'a map of several classes'
        raise InputError(
            f'{sample["img_path"]} has {found} as its prediction, and MaskWriter (--out of tools/test.py) writes '
            "masks of one object: take the options of the metric of its data set, such as IoUMetric's output_dir"
        )
    name = mask_name(sample['img_path'], sample.get('sent_id'))
    order = (str(sample['img_path']), sample.get('sample_idx', 0), str(sample.get('text')))
    return NamedMask(name, order, encode_rle(labels == 1))


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, made distinct by numbers; names that differ only in case count as equal."""
    taken = {name.casefold() for name in names}
    found: list[str] = []
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
