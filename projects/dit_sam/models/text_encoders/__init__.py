from .hugging_face import HuggingFaceTextEncoder
from .tokenizer import build_tokenizer
from .vision_language import BEiT3TextEncoder

__all__ = ['BEiT3TextEncoder', 'HuggingFaceTextEncoder', 'build_tokenizer']
