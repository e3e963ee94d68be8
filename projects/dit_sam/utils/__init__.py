from .checkpoints import CheckpointError, weights_of
from .outputs import atomic_write, check_file, check_folder, cut_name, name_part, write_whole, writing_to, written_whole
from .pictures import MAX_PIXELS, decode, opened, read_image, undecodable
from .pretrained import describe_misfit, load_sam_weights, load_strictly, pretrained_step
from .state_dict_maps import HUGGING_FACE_SAM, LAYOUTS, OURS, RELEASED_DIT, SAM, StateDictMap, find_layout
from .weight_files import check_target, read_weights, save_weights, weight_files

__all__ = [
    'CheckpointError',
    'HUGGING_FACE_SAM',
    'LAYOUTS',
    'MAX_PIXELS',
    'OURS',
    'RELEASED_DIT',
    'SAM',
    'StateDictMap',
    'atomic_write',
    'check_file',
    'check_folder',
    'check_target',
    'cut_name',
    'decode',
    'describe_misfit',
    'find_layout',
    'load_sam_weights',
    'load_strictly',
    'name_part',
    'opened',
    'pretrained_step',
    'read_image',
    'read_weights',
    'save_weights',
    'undecodable',
    'weight_files',
    'weights_of',
    'write_whole',
    'writing_to',
    'written_whole',
]
