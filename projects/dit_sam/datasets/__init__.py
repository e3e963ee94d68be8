"""Referring data sets, their samplers and transforms.

To add a data set, write a subclass of `ReferringDataset` that overrides `load_table`, and import it here. `refcoco.py`
and `json_lines.py` are examples.
"""

from .grefcoco import GRefCOCODataset
from .json_lines import ReferringJSONDataset
from .refcoco import RefCOCODataset
from .referring_dataset import ReferringDataset
from .samplers import ImageBatchSampler, WeightedConcatSampler
from .table import ReferringTable
from .transforms import (
    LoadReferringMask,
    PackReferringInputs,
    RandomGaussianBlur,
    ReferringColorJitter,
    ReferringFlip,
    SamplePrompts,
)
from .vocabulary_sentences import training_sentences

__all__ = [
    'GRefCOCODataset',
    'ImageBatchSampler',
    'LoadReferringMask',
    'PackReferringInputs',
    'RandomGaussianBlur',
    'RefCOCODataset',
    'ReferringColorJitter',
    'ReferringDataset',
    'ReferringFlip',
    'ReferringJSONDataset',
    'ReferringTable',
    'SamplePrompts',
    'WeightedConcatSampler',
    'training_sentences',
]
