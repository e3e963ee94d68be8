"""Image encoders, instructions, text encoders, mask decoders and segmentors, in mmseg's registry.

State-dict names are SAM's.
"""

from .backbones import DITViT, SAMViT, StandaloneDITViT
from .batch_mosaic import BatchMosaic
from .data_preprocessor import ReferringDataPreProcessor
from .decode_heads import EVFSAMHead, GeneralizedSAMHead, SAMHead
from .instructions import (
    CrossAttentionInstruction,
    EndToEndInstruction,
    EndToEndStaticInstruction,
    Instruction,
    LayerWiseInstruction,
    LayerWiseStaticInstruction,
)
from .losses import BinaryCrossEntropyLoss, BinaryDiceLoss
from .segmentors import InstructedEncoderDecoder, ReferringSegmentor, ReferringTTAModel, SentencesFromSamples
from .text_encoders import BEiT3TextEncoder, HuggingFaceTextEncoder

__all__ = [
    'BEiT3TextEncoder',
    'BatchMosaic',
    'BinaryCrossEntropyLoss',
    'BinaryDiceLoss',
    'CrossAttentionInstruction',
    'DITViT',
    'EVFSAMHead',
    'EndToEndInstruction',
    'EndToEndStaticInstruction',
    'GeneralizedSAMHead',
    'HuggingFaceTextEncoder',
    'InstructedEncoderDecoder',
    'Instruction',
    'LayerWiseInstruction',
    'LayerWiseStaticInstruction',
    'ReferringDataPreProcessor',
    'ReferringSegmentor',
    'ReferringTTAModel',
    'SAMHead',
    'SAMViT',
    'SentencesFromSamples',
    'StandaloneDITViT',
]
