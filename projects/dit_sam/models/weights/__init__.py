"""SAM's weights and those of other code bases: names, loading, conversion."""

from .sam_weights import load_sam_weights, pretrained_init_cfg
from .state_dict_maps import EVF_SAM, HUGGING_FACE_SAM, LAYOUTS, OURS, RELEASED_DIT, SAM, StateDictMap, find_layout

__all__ = [
    'EVF_SAM',
    'HUGGING_FACE_SAM',
    'LAYOUTS',
    'OURS',
    'RELEASED_DIT',
    'SAM',
    'StateDictMap',
    'find_layout',
    'load_sam_weights',
    'pretrained_init_cfg',
]
