from .attend import attend
from .attention import InstructedAttention
from .block import InstructedBlock
from .derived_cache import DerivedCache, is_cacheable, sampled_values
from .neck import LayerNorm2d, PointwiseConv
from .relative_position import relative_position_table, relative_position_terms
from .resize import resize
from .windows import pad_to_windows, window_partition, window_unpartition

__all__ = [
    'DerivedCache',
    'InstructedAttention',
    'InstructedBlock',
    'LayerNorm2d',
    'PointwiseConv',
    'attend',
    'is_cacheable',
    'pad_to_windows',
    'relative_position_table',
    'relative_position_terms',
    'resize',
    'sampled_values',
    'window_partition',
    'window_unpartition',
]
