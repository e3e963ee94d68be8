from .checkpoints import CheckpointError, weights_of
from .files import atomic_write, atomic_write_text, check_file, check_folder, cut_name, name_part, wrap_write_errors
from .images import MAX_PIXELS, decode_image, open_image, read_image, undecodable_reason
from .pretrained import load_sam_weights, load_strictly, pretrained_init_cfg, state_dict_mismatch
from .rle import decode_rle, encode_rle
from .state_dict_maps import HUGGING_FACE_SAM, LAYOUTS, OURS, RELEASED_DIT, SAM, StateDictMap, find_layout
from .weight_files import check_target, read_weights, save_weights, weight_files

__all__ = [
    'CheckpointError',
    'HUGGING_FACE_SAM',
    'LAYOUTS',
    'CheckpointError',
    'MAX_PIXELS',
    'OURS',
    'RELEASED_DIT',
    'SAM',
    'StateDictMap',
    'atomic_write',
    'atomic_write_text',
    'check_file',
    'check_folder',
    'check_target',
    'cut_name',
    'decode_image',
    'decode_rle',
    'state_dict_mismatch',
    'encode_rle',
    'find_layout',
    'load_sam_weights',
    'load_strictly',
    'name_part',
    'open_image',
    'pretrained_init_cfg',
    'read_image',
    'read_weights',
    'save_weights',
    'undecodable_reason',
    'weight_files',
    'weights_of',
    'wrap_write_errors',
]
