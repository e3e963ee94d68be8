from .flip import ReferringFlip, swap_left_right
from .formatting import PackReferringInputs
from .loading import LoadReferringMask, decode_segmentation
from .photometric import RandomGaussianBlur, ReferringColorJitter

__all__ = [
    'LoadReferringMask', 'PackReferringInputs', 'RandomGaussianBlur', 'ReferringColorJitter', 'ReferringFlip',
    'decode_segmentation', 'swap_left_right'
]
