"""BEiT-3 as a text encoder: tokens, weights of its own files, and what it refuses."""

import json
import random
from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS
from tiny import VOCABULARY, assert_close, noise, randomize

from dit_sam.errors import InputError
from dit_sam.models.text_encoders import build_tokenizer

ARCH = dict(embed_dims=16, depth=2, num_heads=2, hidden_dims=32)
TEXT = ['the red box', 'a small blue cat', 'zebra top left', 'the man with hair', 'dog on the right', 'hair of woman']


def build(tokenizer=tuple(VOCABULARY), **kwargs):
    config = dict(
        type='BEiT3TextEncoder', arch=ARCH, img_size=32, vocab_size=80, max_positions=12, tokenizer=tokenizer, **kwargs
    )
    return MODELS.build(config).eval()


def write_hub_folder(folder: Path, kind: str = 'unigram', semantic: bool = False):
    """The files of a tokenizer as in EVF-SAM's repositories; returns sentencepiece's own tokenizer."""
    sentencepiece = pytest.importorskip('sentencepiece', reason="XLM-RoBERTa's tokenizer needs sentencepiece")
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_prefix=str(folder / 'pieces'),
        vocab_size=60,
        hard_vocab_limit=kind == 'bpe',
        model_type=kind,
        minloglevel=2,
    )
    model = (folder / 'pieces.model').rename(folder / 'sentencepiece.bpe.model')
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    tokens = dict(bos='<s>', cls='<s>', eos='</s>', mask='<mask>', pad='<pad>', sep='</s>', unk='<unk>')
    specials = {f'{name}_token': token for name, token in tokens.items()}
    (folder / 'special_tokens_map.json').write_text(json.dumps(specials))
    config = dict(specials, tokenizer_class='XLMRobertaTokenizer')
    (folder / 'tokenizer_config.json').write_text(json.dumps(config))
    if semantic:
        (folder / 'added_tokens.json').write_text(json.dumps({'[semantic]': processor.get_piece_size() + 2}))
    return processor


@pytest.mark.parametrize('kind', ['unigram', 'bpe'])
def test_a_tokenizer_of_sentencepiece_gives_its_pieces(kind, tmp_path):
    """Ids are those of the pieces plus one; 0 opens and 2 closes a sentence, 3 is unknown (fairseq's order)."""
    pieces = write_hub_folder(tmp_path / kind, kind)
    ours = build_tokenizer(str(tmp_path / kind))
    words, draw = [word for line in TEXT for word in line.split()], random.Random(0)
    for _ in range(200):
        letters = [''.join(draw.choices('theradboxcx-', k=6)), draw.choice(['Ünï', '"q"', 'left-right', 'ｒｅｄ'])]
        sentence = ' '.join(draw.choices([*words, *letters], k=draw.randint(1, 6)))
        expected = [0, *(i + 1 if i else 3 for i in pieces.encode(sentence)), 2]
        assert ours(sentence)['input_ids'] == expected, sentence


def test_semantic_is_one_token_where_it_is_known_and_refused_elsewhere(tmp_path):
    write_hub_folder(tmp_path / 'plain')
    pieces = write_hub_folder(tmp_path / 'multitask', semantic=True)
    encoder, images = build(str(tmp_path / 'multitask')), noise(1, 3, 32, 32)
    ids, _ = encoder._tokenize(['[semantic] hair'])
    assert ids.tolist() == [[0, pieces.get_piece_size() + 2, *(i + 1 for i in pieces.encode('hair')), 2]]
    assert encoder(['[semantic] hair'], images).tokens.isfinite().all()
    with pytest.raises(InputError, match='Semantic. hair.: write .semantic. in small letters'):
        encoder._check_semantic(['[semantic] hair', '[Semantic] hair'])
    with pytest.raises(InputError, match='write .semantic. in small letters'):
        encoder(['[Semantic] hair'], images)
    for sentence in ('[semantic] hair', 'all [semantic] hair'):
        with pytest.raises(InputError, match='does not know .semantic.*evf-sam-multitask'):
            build(str(tmp_path / 'plain'))([sentence], images)


def test_sentences_longer_than_the_position_table_are_refused_or_cut():
    images, sentence = noise(2, 3, 32, 32), 'the red box on the left of a big blue cat'
    with pytest.raises(InputError, match='sentence 1 of 2 has 13 tokens, the text encoder has positions for 10'):
        build()(['cat', sentence], images)
    assert build(max_length=8)(['cat', sentence], images).tokens.shape == (2, 8, 16)
    with pytest.raises(InputError, match='max_length=11 must be 3 to 10'):
        build(max_length=11)
    with pytest.raises(InputError, match='sentence 0 of 1 is empty'):
        build()([' '], images[:1])


def test_padding_does_not_change_features():
    encoder, images = randomize(build()), noise(2, 3, 32, 32)
    together = encoder(['cat', 'the red box on the left'], images)
    alone = encoder(['cat'], images[:1])
    assert together.mask.tolist() == [[True] * 3 + [False] * 5, [True] * 8]
    assert_close(together.pooled[:1], alone.pooled)
    assert_close(together.tokens[:1, :3], alone.tokens)


def test_its_own_files_and_those_of_evf_sam_load(tmp_path):
    source = randomize(build())
    own = {name.removeprefix('beit3.'): value for name, value in source.beit3.state_dict().items()}
    files = {
        'beit3.pth': dict(model={f'beit3.{name}': value for name, value in own.items()}),
        'evf.pth': {f'mm_extractor.beit3.{name}': value.half() for name, value in own.items()},
    }
    files['beit3.pth']['model'] |= {'mlm_head.weight': torch.ones(80, 16), 'mim_head.bias': torch.ones(3)}
    files['evf.pth']['text_hidden_fcs.0.0.bias'] = torch.ones(16)
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        loaded = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / name)))
        loaded.init_weights()
        for key, value in loaded.beit3.state_dict().items():
            assert_close(value, own[key], 1e-3 if name == 'evf.pth' else 0, key)


def test_visual_positions_are_resized_to_another_grid(tmp_path):
    source = randomize(build())
    torch.save(dict(model=source.state_dict()), tmp_path / 'beit3.pth')
    larger = MODELS.build(
        dict(
            type='BEiT3TextEncoder',
            arch=ARCH,
            img_size=64,
            vocab_size=80,
            max_positions=12,
            init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'beit3.pth')),
        )
    )
    larger.init_weights()
    old, new = (model.beit3.encoder.embed_positions['A'].weight for model in (source, larger))
    assert len(old) == 2 + 1 + 2 * 2 and len(new) == 2 + 1 + 4 * 4
    assert torch.equal(new[:3], old[:3])
    # Bicubic resizing keeps the mean of the grid.
    assert_close(new[3:].mean(0), old[3:].mean(0), 1e-5)


def test_weights_of_another_size_are_refused(tmp_path):
    weights = {
        'beit3.text_embed.weight': torch.zeros(80, 1024),
        'beit3.encoder.layers.23.ffn.A.fc1.bias': torch.ones(1),
    }
    torch.save(dict(model=weights), tmp_path / 'large.pth')
    torch.save(dict(model={'blocks.0.weight': torch.ones(1)}), tmp_path / 'other.pth')
    with pytest.raises(InputError, match="large.pth are 'large', and .*asks for 16 channels in 2 layers"):
        build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'large.pth'))).init_weights()
    with pytest.raises(InputError, match='other.pth holds no BEiT-3'):
        build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))).init_weights()
    with pytest.raises(InputError, match='images of .16, 16. for BEiT-3, which takes 32×32'):
        build()(['cat'], noise(1, 3, 16, 16))


@pytest.mark.parametrize('kwargs', [{}, dict(with_cp=True), dict(lora=dict(r=2, target_modules=['q_proj.A', 'fc1']))])
def test_what_trains_has_gradients(kwargs):
    encoder = build(**kwargs).train()
    features = encoder(['cat', 'the red box'], noise(2, 3, 32, 32))
    (features.tokens.square().sum() + features.pooled.square().sum()).backward()
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert 'beit3.vision_embed.mask_token' not in trained
    assert all('lora_' in name for name in trained) == ('lora' in kwargs)
    frozen = build(frozen=True, **kwargs).train()
    assert not frozen.training and not any(parameter.requires_grad for parameter in frozen.parameters())
