from .flip import ReferringFlip, swap_left_right
from .formatting import PackReferringInputs
from .loading import LoadReferringMask, decode_segmentation
from .photometric import RandomGaussianBlur, ReferringColorJitter
from .prompts import SamplePrompts
from .resizing import ReferringResize
from .text_encoder_image import AddTextEncoderImage

__all__ = [
    'AddTextEncoderImage',
    'LoadReferringMask',
    'PackReferringInputs',
    'RandomGaussianBlur',
    'ReferringColorJitter',
    'ReferringFlip',
    'ReferringResize',
    'SamplePrompts',
    'decode_segmentation',
    'swap_left_right',
]
