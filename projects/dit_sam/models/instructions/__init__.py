from .base import Instruction
from .end_to_end import EndToEndInstruction
from .layer_wise import LayerWiseInstruction

__all__ = ['EndToEndInstruction', 'Instruction', 'LayerWiseInstruction']
