"""Sentences to features, against transformers' own BERT."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.registry import MODELS
from safetensors.torch import load_file, save_file
from tiny import VOCABULARY, assert_close, bert_tokenizer, randomize, text_encoder
from transformers import AutoConfig, BertModel

from dit_sam.errors import InputError
from dit_sam.models.text_encoders import build_tokenizer
from dit_sam.utils import CheckpointError

SIZES = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
TOKENIZED = dict(padding='longest', truncation=True, max_length=8, return_tensors='pt')
SENTENCES = ['the red box', 'cat', 'the small cats left of the big blue box']


def build(**kwargs):
    return randomize(MODELS.build(text_encoder(**kwargs))).eval()


def reference(encoder) -> BertModel:
    """transformers' model with the encoder's weights; only the pooler stays its own."""
    bert = BertModel(AutoConfig.for_model(**text_encoder()['model'])).eval()
    keys = bert.load_state_dict(encoder.model.state_dict(), strict=False)
    assert not keys.unexpected_keys and all(key.startswith('pooler.') for key in keys.missing_keys)
    return bert


@pytest.fixture
def folder(tmp_path) -> str:
    """A folder with a text model, as written by `save_pretrained` or `hf download`."""
    torch.manual_seed(7)
    BertModel(AutoConfig.for_model(**text_encoder()['model'])).save_pretrained(tmp_path / 'bert')
    bert_tokenizer(model_max_length=24).save_pretrained(tmp_path / 'bert')
    return str(tmp_path / 'bert')


def test_features_equal_transformers():
    encoder, tokenizer = build(), bert_tokenizer()
    bert = reference(encoder)
    features = encoder(SENTENCES)
    batch = tokenizer(SENTENCES, **TOKENIZED)
    assert_close(features.tokens, bert(**batch).last_hidden_state, 1e-6)
    assert features.mask.dtype == torch.bool
    assert torch.equal(features.mask, batch['attention_mask'].bool())
    assert features.mask.sum(1).tolist() == [5, 3, 8]  # [CLS] the red box [SEP], [CLS] cat [SEP], cut at 8


def test_a_batch_equals_single_sentences():
    encoder = build()
    together = encoder(SENTENCES)
    for i, sentence in enumerate(SENTENCES):
        alone = encoder([sentence])
        assert alone.mask.all()
        assert_close(together.tokens[i][together.mask[i]], alone.tokens[0])


def test_padding_passed_on_as_text():
    """As in the released code, every sentence has `max_length` tokens and all of them count."""
    encoder = build(mask_text_padding=False)
    features = encoder(['cat'])
    assert features.tokens.shape == (1, 8, 16)
    assert features.mask.all()
    encoder.mask_text_padding = True
    assert_close(features.tokens[:, :3], encoder(['cat']).tokens)


def test_a_long_sentence_is_truncated_with_one_warning(caplog):
    encoder, logger = build(), MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        encoder(['cat ' * 6])
        assert not caplog.records
        for _ in range(2):
            assert encoder(['cat ' * 7, 'dog']).tokens.shape == (2, 8, 16)
    finally:
        logger.removeHandler(caplog.handler)
    (message,) = caplog.messages
    assert 'more than max_length=8 tokens' in message


@pytest.mark.parametrize('blank', ['', ' \t\n'])
def test_a_blank_sentence_is_an_error(blank):
    with pytest.raises(ValueError, match='sentence 1 of 2 is empty'):
        build()(['cat', blank])


def test_frozen_text_encoder_stays_in_evaluation_mode():
    encoder = build(frozen=True).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder(['cat']).tokens, encoder(['cat']).tokens)
    assert not encoder(['cat']).tokens.requires_grad


def test_unfrozen_text_encoder_has_dropout_and_gradients():
    encoder = build().train()
    assert not torch.equal(encoder(['cat']).tokens, encoder(['cat']).tokens)
    encoder(['cat']).tokens.pow(2).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize('file', ['model.safetensors', 'pytorch_model.bin', 'pytorch_model-2-of-2.bin'])
def test_model_and_tokenizer_from_a_folder(folder, file):
    written = Path(folder, 'model.safetensors')
    weights = load_file(written)
    written.unlink()
    if file == written.name:
        save_file(weights, written, dict(format='pt'))
    else:
        torch.save(weights, Path(folder, file))
    if '-of-' in file:
        index = dict(weight_map=dict.fromkeys(weights, file))
        Path(folder, 'pytorch_model.bin.index.json').write_text(json.dumps(index))
    encoder = MODELS.build(
        dict(
            type='HuggingFaceTextEncoder',
            model=folder,
            tokenizer=folder,
            init_cfg=dict(type='Pretrained', checkpoint=folder),
        )
    )
    bert = BertModel(AutoConfig.from_pretrained(folder)).eval()
    bert.load_state_dict(weights)
    encoder.eval().init_weights()
    expected = {name: value for name, value in bert.state_dict().items() if not name.startswith('pooler.')}
    assert expected.keys() == encoder.model.state_dict().keys()
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    batch = bert_tokenizer()(SENTENCES, padding=True, return_tensors='pt')
    assert_close(encoder(SENTENCES).tokens, bert(**batch).last_hidden_state, 1e-6)


def test_a_model_with_fewer_layers_takes_the_first_ones(folder):
    """As the released DIT reads the first layer of twelve."""
    sizes = text_encoder()['model']
    deep = BertModel(AutoConfig.for_model(**{**sizes, 'num_hidden_layers': 3}))
    deep.save_pretrained(folder)
    init_cfg = dict(type='Pretrained', checkpoint=folder)
    encoder = MODELS.build(text_encoder(model=dict(sizes, num_hidden_layers=1), init_cfg=init_cfg))
    encoder.init_weights()
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, deep.state_dict()[name]), name


def test_half_precision_on_disk_is_read_as_float32(folder):
    BertModel.from_pretrained(folder).to(torch.float16).save_pretrained(folder)
    encoder = MODELS.build(text_encoder(init_cfg=dict(type='Pretrained', checkpoint=folder)))
    encoder.init_weights()
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize('prefix', ['', 'text_encoder.'])
def test_weights_from_a_file(tmp_path, prefix):
    source, target = (
        build(),
        MODELS.build(
            text_encoder(
                init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'bert.safetensors'), prefix=prefix or None)
            )
        ),
    )
    save_file({prefix + name: value for name, value in source.state_dict().items()}, tmp_path / 'bert.safetensors')
    target.init_weights()
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_the_constructor_opens_no_files():
    encoder = build(tokenizer='no/such/folder', init_cfg=dict(type='Pretrained', checkpoint='no/such/weights'))
    with pytest.raises(FileNotFoundError, match="no tokenizer at 'no/such/folder'.*hf download no/such/folder"):
        encoder(['cat'])
    with pytest.raises(FileNotFoundError, match="no text weights at 'no/such/weights'.*hf download no/such/weights"):
        encoder.init_weights()


def test_missing_files_of_a_folder_are_named(folder):
    def build_from(path) -> None:
        MODELS.build(text_encoder(init_cfg=dict(type='Pretrained', checkpoint=str(path)))).init_weights()

    for name in ('tokenizer.json', 'tokenizer_config.json', 'model.safetensors'):
        Path(folder, name).unlink()
    weights = Path(folder, 'pytorch_model.bin')
    torch.save({f'layer_{i}': torch.ones(800) for i in range(5)}, weights)
    weights.write_bytes(weights.read_bytes()[:9000])
    with pytest.raises(CheckpointError, match=f'checkpoint {weights} is damaged'):
        build_from(folder)
    weights.unlink()
    Path(folder, 'model.safetensors.index.json').write_text('{"weight_map": {"a": "lost.safetensors"}}')
    with pytest.raises(FileNotFoundError, match='lost.safetensors not found'):
        build_from(folder)
    Path(folder, 'model.safetensors.index.json').unlink()
    with pytest.raises(InputError, match=f"tokenizer '{folder}' has special tokens but no words: .* as tokenizer.json"):
        build_tokenizer(folder)
    with pytest.raises(InputError, match=f'folder {folder} holds no weights: it has none of .*_model.bin'):
        build_from(folder)
    Path(folder, 'config.json').unlink()
    with pytest.raises(FileNotFoundError, match=f"no text weights at '{folder}': the folder lacks a config.json"):
        build_from(folder)
    with pytest.raises(FileNotFoundError, match=f"no text weights at '{folder}/none': there is no such folder"):
        build_from(f'{folder}/none')


def test_a_vocabulary_larger_than_the_embedding_says_what_to_set():
    with pytest.raises(ValueError, match=f'the tokenizer has {len(VOCABULARY) + 1} tokens.*set vocab_size='):
        build(tokenizer=[*VOCABULARY, 'zebra'])(['cat'])


@pytest.mark.parametrize(
    'sizes',
    [
        dict(hidden_size='big'),
        dict(hidden_size=-16),
        dict(num_attention_heads=0),
        dict(vocab_size=0),
        dict(hidden_act='nope'),
        dict(pad_token_id=99999),
        dict(model_type='nope'),
    ],
    ids=str,
)
def test_impossible_sizes_are_named_in_one_line(sizes, tmp_path):
    config = dict(SIZES, model_type='bert', vocab_size=len(VOCABULARY)) | sizes
    with pytest.raises(InputError, match=r'^text_encoder\.model.*: .{4,300}$'):
        build(model=config)
    (tmp_path / 'config.json').write_text(json.dumps(config))
    with pytest.raises((InputError, FileNotFoundError), match='text.*model'):
        build(model=str(tmp_path))


@pytest.mark.parametrize(
    'sizes',
    [
        dict(model_type='distilbert', dim=16, n_layers=1, n_heads=2, hidden_dim=32),
        dict(SIZES, model_type='roberta', pad_token_id=0),
        dict(SIZES, model_type='electra', embedding_size=16),
    ],
    ids=lambda sizes: sizes['model_type'],
)
def test_other_text_models_run(sizes):
    features = build(model=dict(sizes, vocab_size=len(VOCABULARY)))(SENTENCES)
    assert features.tokens.shape == (3, 8, 16)
    assert features.tokens.isfinite().all()


def test_masked_tokens_are_replaced_in_training_only():
    """By [MASK]; [CLS], [SEP], padding, half of the sentences and one word of the others stay."""
    encoder = build(masked_tokens=0.4)
    assert_close(
        encoder(SENTENCES).tokens,
        reference(encoder)(**bert_tokenizer()(SENTENCES, **TOKENIZED)).last_hidden_state,
        1e-6,
    )
    ids, attention = encoder._tokenize(SENTENCES, 'longest')
    seen = []
    encoder.encode_tokens = lambda input_ids, attention_mask: seen.append(input_ids)
    encoder.train()
    torch.manual_seed(0)
    for _ in range(300):
        encoder(SENTENCES)
    masked = torch.stack(seen) == VOCABULARY.index('[MASK]')
    assert torch.equal(torch.stack(seen)[~masked], ids.expand(300, -1, -1)[~masked])
    words = attention.bool() & (ids != 2) & (ids != 3)
    assert not masked[:, ~words].any()
    assert (masked.sum(2) < words.sum(1)).all()
    # n words of which one stays: 0.4 (n - 1) are masked on average, in half of 300 times.
    expected = 150 * 0.4 * (words.sum() - len(SENTENCES))
    assert masked.sum() == pytest.approx(expected.item(), rel=0.1)
    # Half of the sentences, and 0.6^(n - 1) of the others, as none of their words is drawn.
    whole = (masked.sum(2) == 0).sum()
    assert whole == pytest.approx(150 * (1 + 0.6 ** (words.sum(1) - 1.0)).sum().item(), rel=0.1)


def test_without_a_mask_token_words_become_unknown():
    encoder = MODELS.build(
        text_encoder(tokenizer=[token for token in VOCABULARY if token != '[MASK]'], masked_tokens=0.9)
    )
    seen = []
    encoder.encode_tokens = lambda input_ids, attention_mask: seen.append(input_ids)
    encoder.train()(['the red box on the dog'] * 20)
    assert (seen[0] == VOCABULARY.index('[UNK]')).any()
    # CLIP's tokenizer has one token for unknown words, the end and padding.
    encoder.tokenizer.unk_token = encoder.tokenizer.eos_token = '[SEP]'
    with pytest.raises(InputError, match='needs a tokenizer with a mask token, or an unknown token of its own'):
        encoder(['the red box'])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(masked_tokens=1.0), 'masked_tokens=1.0 must be 0 or more and less than 1'),
        (dict(masked_tokens=0.1, frozen=True), 'masked_tokens=0.1 has no effect with frozen=True'),
    ],
)
def test_impossible_masking_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(text_encoder(**options))
