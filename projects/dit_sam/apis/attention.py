"""The attention between a picture and a sentence, recorded while `ReferringInferencer` segments."""

from ..errors import InputError
from ..visualization import SentenceAttention, sentence_attention
from ..visualization.attention_record import AttentionRecorder
from .inputs import ImageInput
from .referring_inferencer import ReferringInferencer


def attention_maps(inferencer: ReferringInferencer, image: ImageInput, sentence: str) -> SentenceAttention:
    """Segment one image by one sentence and return the attention between them, layer by layer.

    Raises:
        FileNotFoundError: As in `ReferringInferencer`.
        InputError: As in `ReferringInferencer`, or no part of the model has attention between image and text.
    """
    encoder = getattr(inferencer.model, 'text_encoder', None)
    if encoder is None:
        raise InputError('this model takes no text, so there is no attention to it: choose one with a text encoder')
    recorder = AttentionRecorder()
    with recorder.watch(inferencer.model):
        (sample,) = inferencer([image], [[sentence]], return_datasamples=True)['predictions']
    if not recorder.maps:
        raise InputError(
            'neither the backbone nor the head of this model has attention between image and text: choose '
            'a config with DITViT and an instruction, or with SAMHead'
        )
    return sentence_attention(recorder, sample, encoder.tokenizer, encoder.max_length)
