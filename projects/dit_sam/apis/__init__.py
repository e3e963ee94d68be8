"""The Python interface: sentences in, masks out."""

from .attention import attention_maps
from .inputs import IMAGE_SUFFIXES, InputError, list_images
from .kept_images import KeptImages
from .model_source import ASSETS, DEFAULT_CHECKPOINT, DEFAULT_CONFIG, DRAWINGS_ONLY, config_folder
from .open_image import OpenImage
from .referring_inferencer import ReferringInferencer
from .results import ImageResult, as_coco, as_json, as_npz, cut_out

__all__ = [
    'ASSETS',
    'DEFAULT_CHECKPOINT',
    'DEFAULT_CONFIG',
    'DRAWINGS_ONLY',
    'IMAGE_SUFFIXES',
    'ImageResult',
    'InputError',
    'KeptImages',
    'OpenImage',
    'ReferringInferencer',
    'as_coco',
    'as_json',
    'as_npz',
    'attention_maps',
    'config_folder',
    'cut_out',
    'list_images',
]
