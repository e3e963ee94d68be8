"""A text encoder in evaluation mode encodes each sentence once."""

import copy

import pytest
import torch
from mmseg.registry import MODELS
from tiny import assert_close, randomize, text_encoder

SENTENCES = ['the red box', 'cat', 'the red box', 'big dog', 'cat']


@pytest.fixture
def encoder():
    return randomize(MODELS.build(text_encoder())).eval()


def encoded(encoder, sentences=SENTENCES, **kwargs) -> int:
    """How many sentences the model runs on."""
    rows = []
    handle = encoder.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs['input_ids'])), with_kwargs=True
    )
    with torch.no_grad():
        encoder(sentences, **kwargs)
    handle.remove()
    return sum(rows)


def expected_of(encoder, sentences):
    """Features from a copy with an empty cache."""
    with torch.no_grad():
        return copy.deepcopy(encoder).eval()(sentences)


def test_a_sentence_is_encoded_once(encoder):
    assert encoded(encoder) == 3
    assert encoded(encoder) == 0
    assert encoded(encoder, ['cat', 'small box']) == 1


def test_features_equal_those_without_a_cache(encoder):
    encoded(encoder, ['cat', 'the small cats left of the box'])
    with torch.no_grad():
        features = encoder(SENTENCES)
    expected = expected_of(encoder, SENTENCES)
    assert torch.equal(features.mask, expected.mask)
    assert_close(features.tokens[features.mask], expected.tokens[expected.mask], 1e-6)
    assert torch.equal(features.tokens[0], features.tokens[2])


def test_padding_that_counts_as_text_is_cached(encoder):
    encoder.mask_text_padding = False
    encoded(encoder, ['cat'])
    with torch.no_grad():
        features = encoder(['the red box', 'cat'])
    assert features.mask.all() and features.tokens.shape[1] == 8
    assert_close(features.tokens, expected_of(encoder, ['the red box', 'cat']).tokens, 1e-6)


def test_a_model_made_in_inference_mode_uses_its_current_weights():
    """Writes to such weights cannot be detected."""
    with torch.inference_mode():
        made = MODELS.build(text_encoder()).eval()
        before = made(SENTENCES).tokens
        made.load_state_dict(randomize(MODELS.build(text_encoder()), 1).state_dict())
        after = made(SENTENCES).tokens
    with torch.no_grad():
        assert torch.equal(made(SENTENCES).tokens, after) and not torch.equal(before, after)


def write_in_place(encoder):
    with torch.no_grad():
        next(encoder.model.parameters()).mul_(2)


def load(encoder):
    encoder.load_state_dict({name: value * 2 for name, value in encoder.state_dict().items()})


def exchange(encoder):
    """As EMAHook does before a validation, which then calls `eval`."""
    weight = next(encoder.model.parameters())
    weight.data.copy_(weight.data * 2)
    encoder.eval()


def convert(encoder):
    encoder.double()


@pytest.mark.parametrize('change', [write_in_place, load, exchange, convert])
def test_other_weights_give_other_features(encoder, change):
    encoded(encoder)
    change(encoder)
    assert encoded(encoder) == 3


def test_another_precision_clears_the_cache(encoder):
    encoded(encoder)
    with torch.autocast('cpu', torch.bfloat16):
        assert encoded(encoder) == 3
        assert encoded(encoder) == 0
    assert encoded(encoder) == 3


def test_the_least_recently_used_sentence_is_dropped(encoder):
    encoder._cache.size = 2
    assert encoded(encoder, ['cat', 'dog']) == 2
    assert encoded(encoder, ['cat']) == 0
    assert encoded(encoder, ['box']) == 1  # in place of 'dog'
    assert encoded(encoder, ['cat']) == 0
    assert encoded(encoder, ['dog']) == 1
    assert encoded(encoder, ['red', 'box', 'a', 'cat']) == 4 - 1  # more than are kept


def test_in_training_every_sentence_is_encoded(encoder):
    """Dropout differs from place to place."""
    encoder.train()
    assert encoded(encoder) == 5
    assert encoded(encoder) == 5


def test_a_frozen_encoder_in_training_does_not_use_the_cache():
    """Otherwise a resumed training would not be bit-equal."""
    frozen = randomize(MODELS.build(text_encoder(frozen=True))).train()
    first = frozen(SENTENCES).tokens
    frozen(['small dog', 'cat'])
    assert torch.equal(frozen(SENTENCES).tokens, first)
    assert len(frozen._cache._kept) == 0


def test_repeated_sentences_share_their_gradient(encoder):
    encoder(SENTENCES).tokens.pow(2).sum().backward()
    shared = [parameter.grad.clone() for parameter in encoder.parameters()]
    encoder.zero_grad()
    sum(encoder([sentence]).tokens.pow(2).sum() for sentence in SENTENCES).backward()
    weight = encoder.model.get_input_embeddings().weight
    assert weight.grad.isfinite().all() and len(shared) == len(list(encoder.parameters()))
