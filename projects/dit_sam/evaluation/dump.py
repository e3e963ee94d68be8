"""The dump of `ReferringIoU`: a line of JSON for each scored sentence. `docs/scores.md` lists the keys."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from ..utils import atomic_write, wrap_write_errors
from .scores import Areas

# Copied from a sample's metainfo if they are there.
COPIED = ('img_id', 'ref_id', 'ann_id', 'sent_id', 'category_id', 'kind', 'img_path')


def dump_line(sample: dict, areas: Areas, protocol: str, size: Sequence[int], pixels: int) -> dict[str, Any]:
    """The line for the sentence of a data sample, of which `pixels` pixels were compared; `size` is (H, W)."""
    return dict(
        {key: sample[key] for key in COPIED if key in sample},
        # As the inferencer gives it: 0 for an empty mask.
        **({'score': sample['predicted_iou'] * bool(areas.prediction)} if 'predicted_iou' in sample else {}),
        sentence=sample.get('text'),
        height=size[0],
        width=size[1],
        protocol=protocol,
        pixels=pixels,
        iou=areas.iou,
        intersection=areas.intersection,
        union=areas.union,
        prediction_area=areas.prediction,
        truth_area=areas.truth,
        no_target=areas.no_target,
        empty_iou=areas.empty_iou,
    )


def write_dump(path: str, lines: Iterable[dict]) -> None:
    """Write a dump; an existing file is replaced. Errors as in `wrap_write_errors`."""
    with wrap_write_errors(path), atomic_write(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
        for line in lines:
            # Ids may be numbers of numpy.
            file.write(json.dumps(line, ensure_ascii=False, default=lambda value: value.tolist()) + '\n')
