"""What a model has learned to read: the mIoU of sentences that name one kind of attribute alone."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean

from dit_sam.datasets.shapes.polygons import SHAPES
from dit_sam.datasets.shapes.scene_sampling import COLORS, TEXTURES
from dit_sam.datasets.shapes.single_target import SIZE_WORDS, WITH

# The words of each kind in the sentences of kind 'attribute'.
WORDS = dict(
    color=frozenset(COLORS),
    size=frozenset(word for words in SIZE_WORDS.values() for word in words),
    texture=frozenset([*TEXTURES, *WITH.values()]),
    shape=frozenset(SHAPES),
)


def attribute_scores(dump: Path) -> dict[str, float]:
    """The mIoU in percent for each kind of attribute, such as 'mIoU/color' of "the red thing".

    Args:
        dump: The file of `ReferringIoU(dump=FILE)`. Only sentences of kind 'attribute' with words of one kind count.
    """
    ious = defaultdict(list)
    for line in map(json.loads, dump.read_text().splitlines()):
        named = [kind for kind, words in WORDS.items() if words.intersection(line['sentence'].split())]
        if line['kind'] == 'attribute' and len(named) == 1:
            ious[named[0]].append(line['iou'])
    return {f'mIoU/{kind}': 100 * mean(ious[kind]) for kind in WORDS if ious[kind]}
