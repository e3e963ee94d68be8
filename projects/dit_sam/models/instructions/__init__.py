from .base import Instruction
from .cross_attention import CrossAttentionInstruction
from .end_to_end import EndToEndInstruction
from .layer_wise import LayerWiseInstruction
from .static_tokens import EndToEndStaticInstruction, LayerWiseStaticInstruction

__all__ = [
    'CrossAttentionInstruction',
    'EndToEndInstruction',
    'EndToEndStaticInstruction',
    'Instruction',
    'LayerWiseInstruction',
    'LayerWiseStaticInstruction',
]
