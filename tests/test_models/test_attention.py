"""The image encoder's attention over text and image, compared with the textbook's."""

from unittest import mock

import pytest
import torch
from equations import double
from hypothesis import given, settings
from hypothesis import strategies as st
from textbook import attention
from tiny import assert_close, assert_same_gradients, gradients, noise, randomize

from dit_sam.models.layers import InstructedAttention

MASKS = dict(
    none=None,
    padded=[[True, True, True, False], [True, False, False, False]],
    full=[[True] * 4] * 2,
    empty=[[False] * 4, [True] * 4],
    holes=[[False, True, False, True], [True, False, True, True]],
)


def check(layer, x, text=None, mask=None, keep_text=False, tolerance=1e-5):
    """Outputs and all gradients, of weights and of tokens, in float32 against the textbook in float64."""
    exact = double(layer)
    inputs = [t if t is None else t.clone().requires_grad_() for t in (x, text)]
    exact_inputs = [t if t is None else t.double().requires_grad_() for t in (x, text)]

    outputs = layer(*inputs, mask, keep_text)
    expected = attention(exact, *exact_inputs, mask, exact.window_size)
    assert (outputs[1] is not None) == keep_text
    pairs = [(a, b) for a, b in zip(outputs, expected) if a is not None]
    for number, (a, b) in enumerate(pairs):
        assert_close(a, b, tolerance, f'output {number}')
        weights = noise(*a.shape, seed=number)
        (a * weights).sum().backward(retain_graph=True)
        (b * weights.double()).sum().backward(retain_graph=True)
    assert_same_gradients(gradients(layer), gradients(exact), tolerance)
    for a, b in zip(inputs, exact_inputs):
        if a is not None:
            assert_close(a.grad, b.grad, tolerance, 'gradient of tokens')


def layer_of(window_size, rel_pos_size=5, embed_dims=12, num_heads=3):
    return randomize(InstructedAttention(embed_dims, num_heads, rel_pos_size, window_size))


@pytest.mark.parametrize('keep_text', [False, True], ids=['L-DIT', 'E-DIT'])
@pytest.mark.parametrize('mask', MASKS)
@pytest.mark.parametrize('window_size', [0, 3], ids=['global', 'windowed'])
def test_against_the_textbook(window_size, mask, keep_text, kernel):
    mask = None if MASKS[mask] is None else torch.tensor(MASKS[mask])
    check(layer_of(window_size), noise(2, 5, 7, 12), noise(2, 4, 12, seed=1), mask, keep_text)


@pytest.mark.parametrize('window_size', [0, 3], ids=['global', 'windowed'])
def test_without_text_against_the_textbook(window_size):
    check(layer_of(window_size), noise(2, 5, 7, 12))


@pytest.mark.parametrize('window_size', [0, 2], ids=['global', 'windowed'])
def test_one_visual_token_and_one_text_token(window_size):
    check(layer_of(window_size), noise(1, 1, 1, 12), noise(1, 1, 12, seed=1), torch.tensor([[True]]), keep_text=True)


@pytest.mark.parametrize('keep_text', [False, True], ids=['L-DIT', 'E-DIT'])
@pytest.mark.parametrize('window_size,grid', [(0, (23, 23)), (23, (23, 26))], ids=['global', 'windowed'])
def test_many_keys(monkeypatch, window_size, grid, keep_text, kernel):
    """23 · 23 = 529 in the whole image and in a window. The fused kernel is called where it should be."""
    calls, fused = [], torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        'scaled_dot_product_attention',
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    mask = torch.tensor(MASKS['padded'])
    check(layer_of(window_size, rel_pos_size=23), noise(2, *grid, 12), noise(2, 4, 12, seed=1), mask, keep_text)
    assert len(calls) == (1 + keep_text if kernel == 'fused' else 0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    grid=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    window_size=st.integers(0, 5),
    rel_pos_size=st.integers(1, 7),
    words=st.integers(1, 4),
    batch=st.integers(1, 2),
    keep_text=st.booleans(),
    chunk=st.sampled_from([1, 30, 200, 2**20]),
    data=st.data(),
)
def test_any_sizes_against_the_textbook(grid, window_size, rel_pos_size, words, batch, keep_text, chunk, data):
    """In chunks of any number of windows, heads and rows."""
    mask = data.draw(st.lists(st.lists(st.booleans(), min_size=words, max_size=words), min_size=batch, max_size=batch))
    layer = layer_of(window_size, rel_pos_size, embed_dims=4, num_heads=2)
    with mock.patch('dit_sam.models.layers.chunked_cpu.CHUNK', chunk):
        check(layer, noise(batch, *grid, 4), noise(batch, words, 4, seed=1), torch.tensor(mask), keep_text)


@pytest.mark.parametrize('window_size', [0, 3], ids=['global', 'windowed'])
def test_fully_masked_text_is_like_no_text(window_size, kernel):
    layer, x = layer_of(window_size), noise(2, 5, 7, 12)
    instructed, _ = layer(x, noise(2, 4, 12, seed=1), torch.zeros(2, 4, dtype=torch.bool))
    assert_close(instructed, layer(x)[0], 1e-6)


@pytest.mark.parametrize('window_size', [0, 3], ids=['global', 'windowed'])
def test_padding_changes_nothing(window_size):
    """A sentence with two padding tokens gives the same result as without, for any values of the padding."""
    layer, x, text = layer_of(window_size), noise(1, 5, 7, 12), noise(1, 2, 12, seed=1)
    padded = torch.cat([text, 100 * noise(1, 2, 12, seed=2)], 1)
    visual, words = layer(x, padded, torch.tensor([[True, True, False, False]]), keep_text=True)
    expected_visual, expected_words = layer(x, text, keep_text=True)
    assert_close(visual, expected_visual)
    assert_close(words[:, :2], expected_words)


def test_windows_do_not_change_the_text_output():
    layer, x, text = layer_of(0), noise(2, 6, 8, 12), noise(2, 4, 12, seed=1)
    whole, expected = layer(x, text, torch.tensor(MASKS['padded']), keep_text=True)
    for layer.window_size in (2, 3, 5):
        visual, words = layer(x, text, torch.tensor(MASKS['padded']), keep_text=True)
        assert_close(words, expected, 1e-6)
        assert not torch.allclose(visual, whole, atol=1e-2)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('window_size', [0, 3], ids=['global', 'windowed'])
def test_half_precision_stays_within_its_rounding(window_size, dtype, kernel):
    """A relative step is 2⁻⁸ in bfloat16, 2⁻¹¹ in float16; four of them."""
    layer, x, text = layer_of(window_size), noise(2, 5, 7, 12), noise(2, 4, 12, seed=1)
    mask = torch.tensor(MASKS['padded'])
    with torch.autocast('cpu', dtype=dtype):
        visual, words = layer(x, text, mask, keep_text=True)
    assert visual.dtype == dtype
    expected_visual, expected_words = layer(x, text, mask, keep_text=True)
    tolerance = 4 * 2**-8 if dtype == torch.bfloat16 else 4 * 2**-11
    assert_close(visual, expected_visual, tolerance)
    assert_close(words, expected_words, tolerance)
    visual.float().sum().backward()
    assert all(gradient.isfinite().all() for gradient in gradients(layer).values())


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match='num_heads=5 does not divide embed_dims=12'):
        InstructedAttention(12, 5, 4)
