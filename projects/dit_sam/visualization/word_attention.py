"""Attention between image and text, layer by layer (DIT, Figure 5).

The directions depend on the scheme:

========================  ===================================  ======================================================
layer                     visual tokens attend to the text     text tokens attend to the image
========================  ===================================  ======================================================
`encoder.i`, L-DIT        yes                                  no: its text is key and value only
`encoder.i`, E-DIT        yes                                  yes, except in the last block, whose text is unused
`encoder.i`, CrossAtt     yes                                  yes, in the instruction, before the block
`encoder.i`, default      no: there is no text in the encoder  no
`decoder.i`               yes, image-to-token attention        yes, token-to-image attention
`decoder.final`           no                                   yes
========================  ===================================  ======================================================

Shapes: L text tokens, W words, h × w visual tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from mmseg.structures import SegDataSample

from ..errors import InputError
from .attention_record import AttentionRecorder

DIRECTIONS = ('to_text', 'to_image')


@dataclass
class LayerAttention:
    """The attention of one layer, mean over its heads.

    Attributes:
        name: `encoder.0`, …, `decoder.0`, …, `decoder.final`.
        to_text: Share of its attention that a visual token gives to a word, the sum over its pieces, (W, h, w); None
            where the layer has no such attention.
        to_image: Share of its attention that a word gives to a visual token, the mean over its pieces, (W, h, w); None
            where the layer has no such attention.
    """

    name: str
    to_text: np.ndarray | None = None
    to_image: np.ndarray | None = None


@dataclass
class SentenceAttention:
    """The attention between an image and a sentence.

    Attributes:
        words: Its words, split at blanks, and the special tokens of the text encoder, in order.
        special: Whether each of them is a special token.
        layers: The layers that have such attention, in order.
        window: Left, top, right and bottom of the picture in the map, as fractions; the rest is padding.
        mask: The model's answer, boolean (H, W), at the size of the picture.
    """

    sentence: str
    words: list[str]
    special: list[bool]
    layers: list[LayerAttention]
    window: tuple[float, float, float, float]
    mask: np.ndarray

    def select(self, names: Sequence[str] | None) -> list[LayerAttention]:
        """The layers with these names; None means all.

        Raises:
            InputError: A layer does not exist.
        """
        known = [layer.name for layer in self.layers]
        unknown = [name for name in names or () if name not in known]
        if unknown:
            raise InputError(
                f'no layer {unknown[0]!r} has attention between image and text; there are {", ".join(known)}'
            )
        return [layer for layer in self.layers if layer.name in (names or known)]

    def over_picture(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A map (h, w) without its padding and enlarged to a picture of `size` (height, width)."""
        left, top, right, bottom = self.window
        scale_x, scale_y = (right - left) * values.shape[1] / size[1], (bottom - top) * values.shape[0] / size[0]
        # Centers of pixels to centers of tokens: x' + 0.5 = left + (x + 0.5) · scale.
        columns = left * values.shape[1] + (np.arange(size[1]) + 0.5) * scale_x - 0.5
        rows = top * values.shape[0] + (np.arange(size[0]) + 0.5) * scale_y - 0.5
        x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
        return cv2.remap(values.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sentence_attention(
    recorder: AttentionRecorder, sample: SegDataSample, tokenizer: Callable, max_length: int
) -> SentenceAttention:
    """The attention that was recorded while a model segmented one image by one sentence, by words of the sentence.

    Args:
        recorder: With the maps of that forward pass.
        sample: The model's prediction.
        tokenizer: As in `words_of`.
        max_length: As in `words_of`.
    """
    sentence = sample.metainfo['text']
    words, special, members = words_of(sentence, tokenizer, max_length)
    layers = [_by_word(name, members, recorder.length, **maps) for name, maps in recorder.maps.items()]
    mask = sample.pred_sem_seg.data[0].cpu().numpy() == 1
    return SentenceAttention(sentence, words, special, layers, _window(sample.metainfo), mask)


def words_of(sentence: str, tokenizer: Any, max_length: int) -> tuple[list[str], list[bool], list[list[int]]]:
    """The words of a sentence, split at blanks, and special tokens; whether each is special; the tokens of each.

    Args:
        tokenizer: A fast tokenizer of transformers, which knows the characters of each token.
        max_length: Number of tokens that are kept.
    """
    encoded = tokenizer(
        sentence, truncation=True, max_length=max_length, return_offsets_mapping=True, return_special_tokens_mask=True
    )
    names = tokenizer.convert_ids_to_tokens(encoded['input_ids'])
    words: list[str] = []
    special: list[bool] = []
    members: list[list[int]] = []
    last = None
    columns = zip(names, encoded['special_tokens_mask'], encoded['offset_mapping'])
    for token, (name, is_special, (_, end)) in enumerate(columns):
        # By the last character: some tokens begin with the blank before their word. 0 is a special token.
        place = 0 if is_special else max(1, len(sentence[:end].split()))
        if not place or place != last:
            words.append(sentence.split()[place - 1] if place else name)
            special.append(bool(is_special))
            members.append([])
        members[-1].append(token)
        last = place
    return words, special, members


def _by_word(
    name: str,
    members: list[list[int]],
    length: int,
    to_text: np.ndarray | None = None,
    to_image: np.ndarray | None = None,
) -> LayerAttention:
    """Maps of words from maps of tokens. The text's tokens come last; the decoder has its own before them."""
    to_text, to_image = (None if maps is None else maps[-length:] for maps in (to_text, to_image))
    return LayerAttention(
        name,
        None if to_text is None else np.stack([to_text[tokens].sum(0) for tokens in members]),
        None if to_image is None else np.stack([to_image[tokens].mean(0) for tokens in members]),
    )


def _window(meta: dict) -> tuple[float, float, float, float]:
    left, right, top, bottom = meta.get('padding_size', (0, 0, 0, 0))
    height, width = meta.get('pad_shape', meta['img_shape'])[:2]
    return left / width, top / height, 1 - right / width, 1 - bottom / height
