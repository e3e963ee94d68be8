from .hugging_face import HuggingFaceTextEncoder
from .text_models import as_keywords, known_sizes, make_config
from .tokenizer import build_tokenizer, save_tokenizer
from .vision_language import BEiT3TextEncoder

__all__ = [
    'BEiT3TextEncoder',
    'HuggingFaceTextEncoder',
    'as_keywords',
    'build_tokenizer',
    'known_sizes',
    'make_config',
    'save_tokenizer',
]
