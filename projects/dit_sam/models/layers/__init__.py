from .attend import attend
from .attention import InstructedAttention
from .block import InstructedBlock
from .linear import PointwiseConv
from .relative_position import relative_position_table, relative_position_terms
from .windows import pad_to_windows, window_partition, window_unpartition

__all__ = [
    'InstructedAttention', 'InstructedBlock', 'PointwiseConv', 'attend', 'pad_to_windows', 'relative_position_table',
    'relative_position_terms', 'window_partition', 'window_unpartition'
]
