from .referring_segmentor import ReferringSegmentor
from .referring_tta_model import ReferringTTAModel
from .sentences import InstructedEncoderDecoder, SentencesFromSamples

__all__ = ['InstructedEncoderDecoder', 'ReferringSegmentor', 'ReferringTTAModel', 'SentencesFromSamples']
