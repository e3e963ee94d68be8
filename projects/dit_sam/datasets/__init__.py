from .grefcoco import GRefCOCODataset
from .image_batches import ImageBatchSampler
from .json_lines import ReferringJSONDataset
from .refcoco import RefCOCODataset
from .referring import ReferringDataset
from .samplers import WeightedConcatSampler
from .table import ReferringTable
from .training_sentences import training_sentences
from .transforms import (
    LoadReferringMask,
    PackReferringInputs,
    RandomGaussianBlur,
    ReferringColorJitter,
    ReferringFlip,
    SamplePrompts,
)

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
