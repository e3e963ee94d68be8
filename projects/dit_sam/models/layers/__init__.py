from .attend import attend
from .attention import InstructedAttention
from .block import InstructedBlock
from .layer_norm import LayerNorm2d
from .linear import PointwiseConv
from .relative_position import relative_position_table, relative_position_terms
from .resize import DerivedCache, is_cacheable, resize, spot_values
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
    'spot_values',
    'window_partition',
    'window_unpartition',
]
