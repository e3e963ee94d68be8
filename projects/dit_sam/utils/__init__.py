from .pretrained import describe_misfit, load_sam_weights
from .state_dict_maps import RELEASED_DIT, SAM, StateDictMap

__all__ = ['RELEASED_DIT', 'SAM', 'StateDictMap', 'describe_misfit', 'load_sam_weights']
