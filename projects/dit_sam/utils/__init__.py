"""Files and state dicts, for every package of this project; nothing here knows a model or a run.

checkpoint_sources.py and checkpoints.py read checkpoints without running anything in them, weight_files.py resolves
folders and writes weights, state_dicts.py compares them with a model and loads them. What mmengine's runs write and
resume is in mmengine_extras; SAM's names and sizes are in models/weights.
"""

from .checkpoint_sources import read_checkpoint
from .checkpoints import CheckpointError, weights_of
from .files import (
    atomic_write,
    atomic_write_text,
    check_file,
    check_folder,
    cut_name,
    is_writer_dead,
    lock_folder,
    name_part,
    wrap_write_errors,
)
from .images import MAX_PIXELS, decode_image, open_image, read_image, undecodable_reason
from .rle import decode_rle, encode_rle
from .state_dicts import load_strictly, own_names, shorten, state_dict_mismatch
from .weight_files import check_target, read_weights, save_weights, weight_files


def register_all_modules() -> None:
    """Do nothing: `import dit_sam` has registered every part. `mmengine.hub.get_model` calls it."""


__all__ = [
    'MAX_PIXELS',
    'CheckpointError',
    'atomic_write',
    'atomic_write_text',
    'check_file',
    'check_folder',
    'check_target',
    'cut_name',
    'decode_image',
    'decode_rle',
    'encode_rle',
    'is_writer_dead',
    'load_strictly',
    'lock_folder',
    'name_part',
    'open_image',
    'own_names',
    'read_checkpoint',
    'read_image',
    'read_weights',
    'register_all_modules',
    'save_weights',
    'shorten',
    'state_dict_mismatch',
    'undecodable_reason',
    'weight_files',
    'weights_of',
    'wrap_write_errors',
]
