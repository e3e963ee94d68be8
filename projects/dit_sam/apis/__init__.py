"""What a program calls: sentences in, masks out."""
from .defaults import DEFAULT_CHECKPOINT, DEFAULT_CONFIG
from .inputs import IMAGE_SUFFIXES, InputError, list_images
from .referring_inferencer import ReferringInferencer
from .results import as_json

__all__ = [
    'DEFAULT_CHECKPOINT', 'DEFAULT_CONFIG', 'IMAGE_SUFFIXES', 'InputError', 'ReferringInferencer', 'as_json',
    'list_images'
]
