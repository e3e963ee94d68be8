from .instructed_encoder_decoder import InstructedEncoderDecoder, SentencesFromSamples
from .referring_segmentor import ReferringSegmentor
from .referring_tta_model import ReferringTTAModel

__all__ = ['InstructedEncoderDecoder', 'ReferringSegmentor', 'ReferringTTAModel', 'SentencesFromSamples']
