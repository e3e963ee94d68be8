"""Referring data sets, their samplers and transforms.

To add a data set, write a subclass of `ReferringDataset` whose `load_table` fills a `TableBuilder`; docs/data.md has
one. Own data in JSON lines (`json_lines.py`) or in RefCOCO's format (`refcoco.py`) need no code. docs/test_sets.md
lists readers of further test sets.
"""

from .grefcoco import GRefCOCODataset
from .json_lines import ReferringJSONDataset
from .masks import encode_segmentation
from .phrasecut import PhraseCutDataset
from .r_refcoco import RRefCOCODataset
from .reason_seg import ReasonSegDataset
from .ref_zom import RefZOMDataset
from .refcoco import RefCOCODataset
from .refcoco_m import RefCOCOMDataset
from .refcoco_parts import RefCOCOPartsDataset
from .referring_dataset import ReferringDataset, flatten_collate
from .samplers import ImageBatchSampler, WeightedConcatSampler
from .table import ReferringTable
from .table_builder import TableBuilder
from .transforms import (
    AddTextEncoderImage,
    LoadReferringMask,
    PackReferringInputs,
    RandomGaussianBlur,
    ReferringColorJitter,
    ReferringFlip,
    ReferringResize,
    SamplePrompts,
)
from .vocabulary_sentences import training_sentences

__all__ = [
    'AddTextEncoderImage',
    'GRefCOCODataset',
    'ImageBatchSampler',
    'LoadReferringMask',
    'PackReferringInputs',
    'PhraseCutDataset',
    'RRefCOCODataset',
    'RandomGaussianBlur',
    'ReasonSegDataset',
    'RefCOCODataset',
    'RefCOCOMDataset',
    'RefCOCOPartsDataset',
    'RefZOMDataset',
    'ReferringColorJitter',
    'ReferringDataset',
    'ReferringFlip',
    'ReferringJSONDataset',
    'ReferringResize',
    'ReferringTable',
    'SamplePrompts',
    'TableBuilder',
    'WeightedConcatSampler',
    'encode_segmentation',
    'flatten_collate',
    'training_sentences',
]
