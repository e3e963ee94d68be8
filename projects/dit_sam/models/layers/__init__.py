from .attend import attend
from .attention import InstructedAttention
from .block import InstructedBlock
from .layer_norm import LayerNorm2d
from .linear import PointwiseConv
from .relative_position import relative_position_table, relative_position_terms
from .resize import Kept, resize
from .windows import pad_to_windows, window_partition, window_unpartition

__all__ = [
    'InstructedAttention', 'InstructedBlock', 'Kept', 'LayerNorm2d', 'PointwiseConv', 'attend', 'pad_to_windows',
    'relative_position_table', 'relative_position_terms', 'resize', 'window_partition', 'window_unpartition'
]
