from .outputs import check_file, check_folder, cut_name, name_part, write_whole, writing_to, written_whole
from .pictures import MAX_PIXELS, decode, opened, read_image, undecodable
from .pretrained import load_sam_weights, pretrained_init_cfg, state_dict_mismatch
from .state_dict_maps import HUGGING_FACE_SAM, LAYOUTS, OURS, RELEASED_DIT, SAM, StateDictMap, find_layout
from .weight_files import check_target, read_weights, save_weights, weight_files

__all__ = [
    'HUGGING_FACE_SAM',
    'LAYOUTS',
    'MAX_PIXELS',
    'OURS',
    'RELEASED_DIT',
    'SAM',
    'StateDictMap',
    'check_file',
    'check_folder',
    'check_target',
    'cut_name',
    'decode',
    'state_dict_mismatch',
    'find_layout',
    'load_sam_weights',
    'name_part',
    'opened',
    'pretrained_init_cfg',
    'read_image',
    'read_weights',
    'save_weights',
    'undecodable',
    'weight_files',
    'write_whole',
    'writing_to',
    'written_whole',
]
