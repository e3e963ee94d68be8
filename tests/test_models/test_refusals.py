"""Inputs that parts of the model refuse in one line, or ignore."""

import pytest
import torch
from mmengine.model.weight_init import PretrainedInit
from mmseg.registry import MODELS
from safetensors.torch import save_file
from tiny import backbone, decode_head, noise, randomize, sample, segmentor, text_encoder
from torch import nn

from dit_sam.errors import InputError
from dit_sam.structures import SpatialPrompts, TextFeatures


def save(tmp_path, weights: dict) -> dict:
    """An `init_cfg` of a file with these weights."""
    save_file(weights, tmp_path / 'weights.safetensors')
    return dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.safetensors'))


@pytest.mark.parametrize('images, sentences', [(2, 1), (1, 2), (3, 2)])
def test_each_image_has_its_own_sentence(images, sentences):
    text = TextFeatures(noise(sentences, 4, 16), torch.ones(sentences, 4, dtype=torch.bool))
    head = MODELS.build(decode_head())
    with pytest.raises(InputError, match=f'{images} images with {sentences} sentences: give one for each image'):
        head((noise(images, 16, 4, 4),), text)


def test_each_image_has_its_own_prompts():
    prompts = SpatialPrompts.collate([torch.zeros(1, 2)], [None], [None], size=(32, 32))
    with pytest.raises(InputError, match='2 images with 1 prompts'):
        MODELS.build(decode_head())((noise(2, 16, 4, 4),), None, prompts)


def test_settings_of_mmseg_that_nothing_reads_are_refused():
    with pytest.raises(InputError, match="model.test_cfg.mode='slide': a sentence is about the whole image"):
        segmentor(test_cfg=dict(mode='slide', crop_size=(8, 8), stride=(4, 4)))
    for name, value in dict(sampler=dict(type='OHEMPixelSampler'), dropout_ratio=0.1).items():
        with pytest.raises(InputError, match=f'SAMHead has no use for decode_head.{name}: leave it out'):
            MODELS.build(decode_head(**{name: value}))
    MODELS.build(decode_head(sampler=None, dropout_ratio=0))
    for name in ('channels', 'num_classes'):
        with pytest.raises(InputError, match=f'decode_head.{name}=2: SAMHead has one mask'):
            MODELS.build(decode_head(**{name: 2}))
    with pytest.raises(InputError, match="model.pretrained='a.pth': name the file as dict"):
        segmentor(pretrained='a.pth')
    # Which mmseg's init_model passes.
    segmentor(pretrained=None)


def test_inputs_of_parts_of_patches_are_refused():
    """The encoder would pad them, and the mask would be stretched."""
    segmentor(data_preprocessor=dict(type='ReferringDataPreProcessor', size=(32, 48)))
    for name, value in dict(size=(32, 36), size_divisor=12).items():
        with pytest.raises(InputError, match=f'data_preprocessor.{name}=.* is no multiple of .*patch_size=8'):
            segmentor(data_preprocessor=dict(type='ReferringDataPreProcessor', **{name: value}))


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_loss_and_predict_need_data_samples(mode):
    with pytest.raises(InputError, match=f"mode='{mode}' needs data_samples"):
        segmentor()(torch.zeros(1, 3, 32, 32), None, mode=mode)


def test_ignored_pixels_do_not_count_in_the_logged_iou():
    """Predicted 4 pixels, of which 2 are labeled and 1 is right; a third label is missed."""
    data = sample((1, 5))
    data.gt_sem_seg.data = torch.tensor([[[1, 0, 255, 255, 1]]])
    losses = MODELS.build(decode_head()).loss_by_feat(torch.tensor([[[[9.0, 9.0, 9.0, 9.0, -9.0]]]]), [data])
    assert losses['mean_iou'].item() == pytest.approx(1 / 3 * 100)


def test_a_head_without_text_ignores_the_text_projection_of_a_file(tmp_path):
    source = randomize(MODELS.build(decode_head()))
    init_cfg = save(tmp_path, {f'decode_head.{name}': value for name, value in source.state_dict().items()})
    target = MODELS.build(decode_head(text_dims=None, init_cfg=init_cfg))
    target.init_weights()
    expected = source.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(
    'config, prefix',
    [(text_encoder(), ''), (backbone(), 'backbone.'), (decode_head(), 'decode_head.')],
    ids=['text_encoder', 'backbone', 'decode_head'],
)
def test_init_cfg_may_be_a_list_of_one(tmp_path, config, prefix):
    source = randomize(MODELS.build(config))
    init_cfg = save(tmp_path, {prefix + name: value for name, value in source.state_dict().items()})
    # Pure Python configs name the class, or have its full name after they were loaded.
    for kind in ('Pretrained', PretrainedInit, 'mmengine.model.weight_init.PretrainedInit'):
        target = MODELS.build(dict(config, init_cfg=[dict(init_cfg, type=kind)]))
        target.init_weights()
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())
    target = MODELS.build(dict(config, init_cfg=[dict(type='Normal', layer='Linear'), init_cfg]))
    with pytest.raises(InputError, match='Pretrained must be the only entry'):
        target.init_weights()


@pytest.mark.parametrize('config', [backbone(), decode_head()], ids=['backbone', 'decode_head'])
def test_a_prefix_of_sams_weights_is_refused(config):
    part = MODELS.build(dict(config, init_cfg=dict(type='Pretrained', checkpoint='sam.pth', prefix='teacher.')))
    with pytest.raises(InputError, match="init_cfg.prefix='teacher.': this part is found by the names"):
        part.init_weights()


@pytest.mark.parametrize('sentences', ['cat', []])
def test_sentences_are_a_list(sentences):
    with pytest.raises(InputError, match='is no list of sentences: give one sentence for each image'):
        MODELS.build(text_encoder())(sentences)


def test_other_init_cfg_types_are_left_to_mmengine():
    encoder = MODELS.build(text_encoder(init_cfg=[dict(type='Constant', layer='Linear', val=0.25, bias=0.5)]))
    encoder.init_weights()
    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    assert linears and all((module.weight == 0.25).all() and (module.bias == 0.5).all() for module in linears)


def test_text_weights_of_another_size_are_refused(tmp_path):
    weights = {name: value[..., :4].contiguous() for name, value in MODELS.build(text_encoder()).state_dict().items()}
    encoder = MODELS.build(text_encoder(init_cfg=save(tmp_path, weights)))
    with pytest.raises(InputError, match='weights.safetensors do not fit text_encoder.model: .* of another shape'):
        encoder.init_weights()


def test_a_vocabulary_that_is_not_text_is_named(tmp_path):
    (tmp_path / 'vocab.txt').write_bytes(b'[PAD]\n\xff\xfe\n')
    with pytest.raises(InputError, match='vocab.txt is no text'):
        MODELS.build(text_encoder(tokenizer=str(tmp_path / 'vocab.txt')))(['cat'])
