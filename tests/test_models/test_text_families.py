"""Every family of text models through the one text encoder, against transformers' own model called directly."""

import json
import re

import pytest
import torch
from mmseg.registry import MODELS
from text_families import FAMILIES, Family, byte_pairs
from tiny import assert_close, needs_transformers_5, text_encoder
from tokenizers import Tokenizer
from transformers import GPT2Tokenizer

from dit_sam.apis.shared_config_check import TOKENIZER, check_shared_config
from dit_sam.errors import InputError
from dit_sam.models.text_encoders import as_keywords, build_tokenizer, make_config, save_tokenizer

pytestmark = needs_transformers_5

SENTENCES = ['the red box', 'cat', 'a small blue café right of the cats near un-known fish on the left']
LENGTH = 12


@pytest.fixture(scope='module', params=FAMILIES)
def family(request, tmp_path_factory) -> Family:
    if request.param == 'siglip':
        pytest.importorskip('sentencepiece', reason="SigLIP's tokenizer needs sentencepiece")
    return FAMILIES[request.param](tmp_path_factory.mktemp('hub') / request.param)


def build(family: Family, **kwargs):
    encoder = MODELS.build(
        dict(
            dict(
                type='HuggingFaceTextEncoder',
                model=family.folder,
                tokenizer=family.folder,
                max_length=LENGTH,
                init_cfg=dict(type='Pretrained', checkpoint=family.folder),
            ),
            **kwargs,
        )
    )
    encoder.init_weights()
    return encoder.eval()


def tokenize(family: Family) -> dict:
    """The output of the family's own tokenizer, and a mask of non-padding tokens, by counting."""
    own = 'attention_mask' in family.tokenizer.model_input_names
    batch = family.tokenizer(
        SENTENCES, padding='longest' if own else 'max_length', truncation=True, max_length=LENGTH, return_tensors='pt'
    )
    lengths = [len(ids) for ids in family.tokenizer(SENTENCES, truncation=True, max_length=LENGTH)['input_ids']]
    mask = torch.arange(batch['input_ids'].shape[1]) < torch.tensor(lengths)[:, None]
    assert own == ('attention_mask' in batch)
    return dict(batch), mask


def test_features_and_mask_equal_transformers(family):
    encoder, (batch, mask) = build(family), tokenize(family)
    features = encoder(SENTENCES)
    assert mask[2].all() and not mask[1].all()
    assert torch.equal(features.mask, mask)
    assert features.tokens.shape == (*mask.shape, encoder.out_channels)
    assert_close(features.tokens, family.reference(**batch), 1e-6)


def test_padding_and_the_cache_do_not_change_features(family):
    encoder = build(family, frozen=True)
    together = encoder(SENTENCES)
    with torch.no_grad():
        # Filled one by one, then read.
        alone = [encoder([sentence]) for sentence in SENTENCES]
        again = encoder(SENTENCES)
    assert torch.equal(again.mask, together.mask[:, : again.mask.shape[1]])
    assert_close(again.tokens[again.mask], together.tokens[together.mask], 1e-5)
    for i, one in enumerate(alone):
        assert_close(one.tokens[one.mask], together.tokens[i][together.mask[i]], 1e-5)


def test_only_trained_weights_have_a_gradient(family):
    encoder = build(family).train()
    encoder(SENTENCES).tokens.pow(2).sum().backward()
    assert not [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    encoder = build(family, frozen=True).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(SENTENCES).tokens.requires_grad


def test_special_tokens_in_a_sentence_are_text(family, tmp_path):
    """Only the tokenizer adds special tokens; between them there are only unknown words. Also in the ONNX example."""
    ours = build_tokenizer(family.folder)
    known = set(ours.all_special_tokens) - {ours.unk_token if ours.unk_token != ours.eos_token else None}
    plain = ours('the cat')['input_ids']
    first, last = plain.index(ours('the', add_special_tokens=False)['input_ids'][0]), -1
    for token in ours.all_special_tokens:
        for sentence in (token, f'the {token} cat', f'the cat{token}{token} dog', f'the {token.upper()}'):
            encoded = ours(sentence)['input_ids']
            assert encoded[:first] == plain[:first] and encoded[last:] == plain[last:]
            assert known.isdisjoint(ours.convert_ids_to_tokens(encoded[first:last])), sentence
            # Several tokens or several unknown ones, but never the special token itself.
            assert len(encoded[first:last]) > 1, sentence
            if ours.is_fast:
                ours.backend_tokenizer.save(str(tmp_path / 'tokenizer.json'))
                alone = Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
                alone.encode_special_tokens = True
                assert alone.encode(sentence).ids == encoded


def test_a_sentence_may_use_all_positions(family):
    encoder = build(family, max_length=family.max_positions or 100)
    features = encoder(['the cat ' * 100, 'cat'])
    assert features.tokens.shape[1] == encoder.max_length and features.tokens.isfinite().all()
    if family.max_positions:
        with pytest.raises(
            InputError,
            match=rf'max_length={family.max_positions + 1} .*the {family.max_positions} tokens .*'
            r'max_position_embeddings=\d+',
        ):
            build(family, max_length=family.max_positions + 1)


def test_weights_of_another_family_are_refused(tmp_path):
    bert, roberta = (FAMILIES[name](tmp_path / name) for name in ('bert', 'roberta'))
    with pytest.raises(InputError, match="are of model_type='roberta', and text_encoder.model is 'bert'"):
        build(bert, init_cfg=dict(type='Pretrained', checkpoint=roberta.folder))


def test_a_model_of_images_is_refused():
    with pytest.raises(InputError, match="text_encoder.model: 'vit' does not take text"):
        MODELS.build(
            text_encoder(
                model=dict(
                    model_type='vit', hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
                )
            )
        )


@pytest.mark.parametrize(
    'kind, remedy',
    [('roberta', 'for it: set pad_token_id=0 in text_encoder.model, or give'), ('mpnet', 'for it: give')],
)
def test_a_tokenizer_with_another_padding_token_is_refused(kind, remedy):
    """MPNet's padding token cannot be set."""
    sizes = dict(text_encoder()['model'], model_type=kind)
    encoder = MODELS.build(text_encoder(model=sizes))
    with pytest.raises(InputError, match=re.escape('pads with token 0, and the text model') + f'.*{remedy}'):
        encoder(['cat'])


def test_a_tokenizer_without_padding_is_refused(tmp_path):
    GPT2Tokenizer(**byte_pairs(['<|endoftext|>'])).save_pretrained(tmp_path)
    encoder = MODELS.build(text_encoder(tokenizer=str(tmp_path)))
    with pytest.raises(InputError, match='has no padding token: .*pad_token = eos_token'):
        encoder(['cat'])


def test_every_family_is_rebuilt_from_data(family, tmp_path):
    """As a shared model has it: sizes in its config, and a tokenizer that no class of the family opens."""
    if not family.tokenizer.is_fast:
        with pytest.raises(InputError, match='has no tokenizer.json'):
            save_tokenizer(family.folder, tmp_path)
        return
    save_tokenizer(family.folder, tmp_path)
    sizes = json.loads(json.dumps(as_keywords(make_config(family.folder))))
    part = dict(type='HuggingFaceTextEncoder', model=sizes, tokenizer=TOKENIZER)
    check_shared_config(dict(default_scope='mmseg', model=part, pipeline=[]), 'the config')
    original = build(family)
    rebuilt = build(family, model=sizes, tokenizer=str(tmp_path / TOKENIZER))
    with torch.no_grad():
        expected, found = original(SENTENCES), rebuilt(SENTENCES)
    assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.mask, expected.mask)
