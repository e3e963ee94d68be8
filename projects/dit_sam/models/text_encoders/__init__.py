from .hugging_face import HuggingFaceTextEncoder
from .tokenizer import build_tokenizer

__all__ = ['HuggingFaceTextEncoder', 'build_tokenizer']
