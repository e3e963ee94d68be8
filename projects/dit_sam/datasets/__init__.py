from .refcoco import RefCOCODataset
from .transforms import (LoadReferringMask, PackReferringInputs, RandomGaussianBlur, ReferringColorJitter,
                         ReferringFlip, SamplePrompts)

__all__ = [
    'LoadReferringMask', 'PackReferringInputs', 'RandomGaussianBlur', 'RefCOCODataset', 'ReferringColorJitter',
    'ReferringFlip', 'SamplePrompts'
]
