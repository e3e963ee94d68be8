"""Pictures of what the model does: overlays and attention."""

from .attention_picture import draw_attention
from .files import file_stem, write_image, write_new
from .hook import ReferringVisualizationHook, read_as_loaded
from .numbered_vis_backend import NumberedVisBackend
from .overlay import draw_masks
from .sheet import draw_sheet
from .word_attention import LayerAttention, SentenceAttention, sentence_attention

__all__ = [
    'LayerAttention',
    'NumberedVisBackend',
    'ReferringVisualizationHook',
    'SentenceAttention',
    'draw_attention',
    'draw_masks',
    'draw_sheet',
    'file_stem',
    'read_as_loaded',
    'sentence_attention',
    'write_image',
    'write_new',
]
