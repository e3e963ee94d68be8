"""The recorded attention weights are those that the model uses, and belong to the right word."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dit_sam.apis import ReferringInferencer, attention_maps
from dit_sam.errors import InputError
from dit_sam.models.layers import window_unpartition
from dit_sam.models.layers.attend import prepend_text, split_heads
from dit_sam.models.layers.windows import pad_to_windows, window_partition
from dit_sam.models.text_encoders import build_tokenizer
from dit_sam.visualization import LayerAttention, SentenceAttention, draw_attention
from dit_sam.visualization.attention_record import AttentionRecorder
from dit_sam.visualization.attention_weights import cross_weights, text_weights, visual_weights
from dit_sam.visualization.word_attention import words_of

sys.path.append(str(Path(__file__).parents[1] / 'test_models'))

from tiny import VOCABULARY, assert_close, backbone, batch, noise, segmentor


def values_of(attention, x, text, window):
    """Values of the text and of the image by window, (G, M, L + h · w, C)."""
    text_v = split_heads(attention.qkv(text)[:, None], attention.num_heads)[2][:, :, 0]
    x = window_partition(pad_to_windows(x, window), window) if window else x
    return prepend_text(text_v, split_heads(attention.qkv(x), attention.num_heads)[2])


@pytest.mark.parametrize('block, window', [(0, 3), (1, 0)], ids=['windowed', 'global'])
@torch.no_grad()
def test_weights_times_values_equal_the_blocks_attention(block, window):
    attention = segmentor().backbone.blocks[block].attn
    assert attention.window_size == window
    x, text = noise(2, 4, 5, 24), noise(2, 3, 24, seed=1)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    expected, expected_text = attention(x, text, mask, keep_text=True)

    weights = torch.stack(list(visual_weights(attention, x, text, mask)), 1)
    out = weights @ values_of(attention, x, text, window)
    out = out.transpose(1, 2).flatten(2).unflatten(1, (window, window) if window else (4, 5))
    out = window_unpartition(out, (4, 5)) if window else out
    assert_close(attention.proj(out), expected, 1e-5)
    assert not weights[-1, ..., 2].any()  # the padding of the second sentence

    weights = text_weights(attention, x, text, mask)
    out = weights @ values_of(attention, x, text, 0)
    assert_close(attention.proj(out.transpose(1, 2).flatten(2)), expected_text, 1e-5)
    assert not weights[1, ..., 2].any()


@torch.no_grad()
def test_weights_times_values_equal_the_decoders_attention():
    layer = segmentor().decode_head.mask_decoder.transformer.layers[0].cross_attn_image_to_token
    image, tokens, mask = noise(1, 6, 16), noise(1, 4, 16, seed=1), torch.tensor([[True, True, True, False]])
    weights = cross_weights(layer, image, tokens, mask)
    values = layer._separate_heads(layer.v_proj(tokens), layer.num_heads)
    assert_close(layer.out_proj(layer._recombine_heads(weights @ values)), layer(image, tokens, tokens, mask), 1e-5)


# Layers that have each direction, of three blocks and two of the decoder.
DECODER = {'decoder.0', 'decoder.1'}
BLOCKS = ['encoder.0', 'encoder.1', 'encoder.2']
SCHEMES = {
    'LayerWiseInstruction': (BLOCKS, []),
    'EndToEndInstruction': (BLOCKS, BLOCKS[:2]),
    'CrossAttentionInstruction': (BLOCKS, BLOCKS),
    None: ([], []),
}


@pytest.mark.parametrize('scheme', SCHEMES)
def test_each_scheme_has_its_directions(scheme):
    instruction = None if scheme is None else dict(type=scheme, text_dims=16)
    if scheme == 'CrossAttentionInstruction':
        instruction.update(attn_dims=16, num_heads=2)
    model = segmentor(backbone=backbone(instruction=instruction)).eval()
    recorder, data = AttentionRecorder(), batch()
    with torch.no_grad(), recorder.watch(model):
        watched = model.test_step(data)
    to_text, to_image = (
        {name for name, maps in recorder.maps.items() if direction in maps} for direction in ('to_text', 'to_image')
    )
    assert to_text == {*SCHEMES[scheme][0], *DECODER}
    assert to_image == {*SCHEMES[scheme][1], *DECODER, 'decoder.final'}
    length = recorder.length
    assert length == 5  # [CLS] the red box [SEP]
    for name, maps in recorder.maps.items():
        tokens = length + 5 * name.startswith('decoder')
        assert all(values.shape == (tokens, 4, 4) for values in maps.values())
        # Visual tokens also look at each other; in the decoder the text looks at nothing but the image.
        if 'to_text' in maps:
            total = maps['to_text'].sum(0)
            np.testing.assert_array_less(total, 1 + 1e-5)
            assert name.startswith('encoder') or np.allclose(total, 1, atol=1e-5)
        if name.startswith('decoder') and 'to_image' in maps:
            np.testing.assert_allclose(maps['to_image'].sum((1, 2)), 1, atol=1e-5)
    # The hooks changed nothing, and were removed.
    recorder.maps.clear()
    assert torch.equal(watched[0].seg_logits.data, model.test_step(data)[0].seg_logits.data)
    assert not recorder.maps


def test_pieces_and_punctuation_join_their_word():
    tokenizer = build_tokenizer(VOCABULARY)
    words, special, members = words_of('The  boxs, left-right catish ?', tokenizer, 20)
    assert words == ['[CLS]', 'The', 'boxs,', 'left-right', 'catish', '?', '[SEP]']
    assert special == [True, False, False, False, False, False, True]
    # the · box ##s , · left - right · cat ##ish · ?
    assert members == [[0], [1], [2, 3, 4], [5, 6, 7], [8, 9], [10], [11]]
    assert words_of('the box left right', tokenizer, 4)[0] == ['[CLS]', 'the', 'box', '[SEP]']


def sentence_attention(**maps) -> SentenceAttention:
    """One word on a grid of 4 × 4, with a picture twice as wide as high in the middle."""
    return SentenceAttention(
        'box',
        ['[CLS]', 'box'],
        [True, False],
        [LayerAttention('encoder.0', **maps)],
        (0, 0.25, 1, 0.75),
        np.zeros((20, 40), bool),
    )


def test_maps_cover_the_picture_without_its_padding():
    values = np.zeros((4, 4), np.float32)
    values[0], values[1, 0] = 9, 1  # padding, and the picture's upper left eighth
    laid = sentence_attention().over_picture(values, (20, 40))
    # Token (1, 0) has its middle between the pixels 4 and 5 of both axes; from there on the next one takes over.
    assert laid.shape == (20, 40) and laid[5, 4] > 0.8 and laid[15, 4] < 0.1 and laid[5, 25] < 0.1


def test_the_attended_position_is_colored():
    values = np.zeros((2, 4, 4), np.float32)
    values[:, 1, 0] = 0.9, 0.3
    image = np.full((20, 40, 3), 120, np.uint8)
    attention = sentence_attention(to_text=values)
    drawn, with_special = (draw_attention(image, attention, special=special) for special in (False, True))
    assert drawn.ndim == 3 and drawn.dtype == np.uint8 and with_special.shape == drawn.shape
    colored = (np.ptp(drawn.astype(int), axis=2) > 60).sum()
    assert 100 < colored < drawn.shape[0] * drawn.shape[1] / 4
    for direction, layers, message in (
        ('to_image', None, 'none of these layers has attention to_image'),
        ('to_text', ['encoder.7'], "no layer 'encoder.7' .* there are encoder.0"),
    ):
        with pytest.raises(InputError, match=message):
            draw_attention(image, attention, direction, layers)


def test_the_shipped_model_attends_to_the_named_color():
    """In some layer, red things attend to the word 'red' more than green ones do."""
    image = np.full((96, 96, 3), 255, np.uint8)
    image[30:60, 10:40], image[30:60, 56:86] = (0, 0, 220), (0, 180, 0)  # BGR
    attention = attention_maps(ReferringInferencer(device='cpu', show_progress=False), image, 'the red square')
    assert attention.words == ['[CLS]', 'the', 'red', 'square', '[SEP]'] and attention.mask[45, 25]
    shares = [layer.to_text[2] for layer in attention.layers if layer.to_text is not None]
    assert all(share.shape == (18, 18) for share in shares) and len(shares) == 8
    red, green = np.s_[7:10, 3:6], np.s_[7:10, 12:15]
    assert max(share[red].mean() / share[green].mean() for share in shares) > 2
