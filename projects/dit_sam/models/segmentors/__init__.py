from .referring_segmentor import ReferringSegmentor
from .sentences import InstructedEncoderDecoder, SentencesFromSamples

__all__ = ['InstructedEncoderDecoder', 'ReferringSegmentor', 'SentencesFromSamples']
