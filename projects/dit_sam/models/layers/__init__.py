from .attend import attend
from .attention import InstructedAttention
from .block import InstructedBlock
from .layer_norm import LayerNorm2d
from .linear import PointwiseConv
from .relative_position import relative_position_table, relative_position_terms
from .resize import Kept, can_keep, resize, sample
from .windows import pad_to_windows, window_partition, window_unpartition

__all__ = [
    'InstructedAttention', 'InstructedBlock', 'Kept', 'LayerNorm2d', 'PointwiseConv', 'attend', 'can_keep',
    'pad_to_windows', 'relative_position_table', 'relative_position_terms', 'resize', 'sample', 'window_partition',
    'window_unpartition'
]
