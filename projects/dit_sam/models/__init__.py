from .backbones import DITViT, SAMViT
from .data_preprocessor import ReferringDataPreProcessor
from .decode_heads import SAMHead
from .instructions import EndToEndInstruction, Instruction, LayerWiseInstruction
from .losses import BinaryDiceLoss
from .segmentors import ReferringSegmentor
from .text_encoders import HuggingFaceTextEncoder

__all__ = [
    'BinaryDiceLoss', 'DITViT', 'EndToEndInstruction', 'HuggingFaceTextEncoder', 'Instruction', 'LayerWiseInstruction',
    'ReferringDataPreProcessor', 'ReferringSegmentor', 'SAMHead', 'SAMViT'
]
