"""What the model does, as pictures."""

from .attention import LayerAttention, SentenceAttention, attention_maps
from .attention_picture import draw_attention
from .files import file_stem, write_image, write_new
from .hook import ReferringVisualizationHook
from .numbered_vis_backend import NumberedVisBackend
from .overlay import draw_masks
from .sheet import draw_sheet

__all__ = [
    'LayerAttention',
    'NumberedVisBackend',
    'ReferringVisualizationHook',
    'SentenceAttention',
    'attention_maps',
    'draw_attention',
    'draw_masks',
    'draw_sheet',
    'file_stem',
    'write_image',
    'write_new',
]
