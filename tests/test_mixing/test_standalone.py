"""An encoder with its own text."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from tiny import ARCH, backbone, batch, noise, randomize, sample, segmentor, text_encoder

from dit_sam.errors import InputError

BN = dict(type='BN')
HEAD = dict(type='FCNHead', in_channels=16, channels=8, num_convs=1, num_classes=3, norm_cfg=BN)
SAM = {key: value for key, value in backbone(type='SAMViT').items() if key != 'instruction'}
PREPARE = dict(type='SegDataPreProcessor', size=(32, 32), mean=[0.0] * 3, std=[50.0] * 3, seg_pad_val=0)


def encoder(text='red box', frozen=True, **kwargs):
    words = text_encoder(frozen=frozen)
    words['model']['num_hidden_layers'] = 1
    return backbone(type='StandaloneDITViT', text=text, text_encoder=words, **kwargs)


def model(kind='EncoderDecoder', seed=0, **kwargs):
    parts = dict(
        type=kind,
        data_preprocessor=PREPARE,
        backbone=encoder(**kwargs),
        decode_head=HEAD,
        test_cfg=ConfigDict(mode='slide', crop_size=(32, 32), stride=(24, 24)),
    )
    return randomize(MODELS.build(parts), seed)


def count_encodings(encoder) -> list:
    calls = []
    encoder.text_encoder.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    return calls


def train(net, *texts) -> None:
    data = batch([(32, 32)] * 2, texts or ('cat', 'dog'))
    net.train_step(data, OptimWrapper(torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)))


def test_its_instruction_equals_that_of_ditvit():
    net = randomize(MODELS.build(encoder())).eval()
    images, text = noise(2, 3, 32, 48), net.text_encoder(['red box', 'red box'])
    assert torch.equal(net(images)[0], net(images, text=text)[0])
    # Two sentences about one image: the text of each is the same.
    shared = net(images[:1], image_index=torch.tensor([0, 0]))[0]
    assert torch.allclose(shared, net(images[:1])[0].expand(2, -1, -1, -1), atol=1e-6)
    net.text = None
    with net.use_sentences(None):
        plain = net(images)[0]
    sam = MODELS.build(SAM).eval()
    sam.load_state_dict({name: value for name, value in net.state_dict().items() if name in sam.state_dict()})
    assert torch.equal(sam(images)[0], plain)
    net.text = 'blue cat'
    assert not torch.allclose(net(images)[0], plain)


def test_a_frozen_text_encoder_encodes_the_text_once():
    net = model().train()
    calls = count_encodings(net.backbone)
    for _ in range(3):
        train(net)
    assert calls == [False]
    # Whatever changes the features has them made again.
    net.backbone.text = 'cat'
    train(net)
    with torch.no_grad():
        net.backbone.text_encoder.model.embeddings.word_embeddings.weight.mul_(2)
    train(net)
    net.train()
    with torch.inference_mode():
        net.backbone(noise(1, 3, 32, 32))
    train(net)
    assert calls == [False] * 4


def test_a_trained_text_encoder_learns():
    net = model(frozen=False).train()
    calls = count_encodings(net.backbone)
    before = net.backbone.text_encoder.model.embeddings.word_embeddings.weight.clone()
    for _ in range(2):
        train(net)
    assert calls == [True, True]
    assert not torch.equal(net.backbone.text_encoder.model.embeddings.word_embeddings.weight, before)


def predict(net, text, size=(40, 60)):
    data = dict(inputs=batch([size], ['cat'])['inputs'], data_samples=[sample(size, text)])
    return net.eval().test_step(data)[0].seg_logits.data


def test_each_image_uses_the_sentence_of_its_sample():
    """Also in sliding windows: every crop of an image uses its sentence."""
    net = model('InstructedEncoderDecoder', text=None)
    train(net.train(), 'red box', 'cat')
    cat, dog = predict(net, 'cat'), predict(net, 'dog')
    assert cat.shape == (3, 40, 60) and not torch.allclose(cat, dog)
    fixed = model('InstructedEncoderDecoder', text='cat')
    fixed.load_state_dict(net.state_dict())
    assert torch.equal(predict(fixed, None), cat)
    assert torch.equal(predict(fixed, 'dog'), dog)
    # The sentence of an image is forgotten after it.
    assert torch.equal(predict(fixed, None), cat)


def test_loss_and_predict_may_be_called_directly():
    net = model('InstructedEncoderDecoder', text=None).eval()
    cat = predict(net, 'cat')
    data = net.data_preprocessor(dict(inputs=batch([(40, 60)], ['cat'])['inputs'], data_samples=[sample((40, 60))]))
    data['data_samples'][0].set_metainfo(dict(text='cat'))
    with torch.no_grad():
        assert torch.equal(net.predict(**data)[0].seg_logits.data, cat)
    data = net.data_preprocessor(batch([(32, 32)] * 2, ['cat', 'dog']), training=True)
    losses = net.loss(**data)['decode.loss_ce'], net(**data, mode='loss')['decode.loss_ce']
    assert torch.equal(*losses)


def test_a_second_text_encoder_is_refused():
    with pytest.raises(InputError, match='StandaloneDITViT. has its own text encoder, so that of model.text_encoder'):
        segmentor(backbone=encoder())


class Wrapper(torch.nn.Module):
    """A wrapper like those of other packages, which hides the attributes of the wrapped part."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


@pytest.mark.parametrize(
    'wrap', [Wrapper, lambda part: torch.compile(part, backend='eager')], ids=['wrapper', 'torch.compile']
)
def test_a_wrapped_backbone_gets_sentences(wrap):
    # One block, because each is compiled.
    net = model('InstructedEncoderDecoder', text='red box', arch=dict(ARCH, depth=1, global_attn_indexes=()))
    before = [predict(net, text) for text in ('cat', 'dog', None)]
    # Compiling BERT takes seconds, and this is about how sentences reach it.
    encoder = net.backbone.text_encoder
    encoder.forward = torch.compiler.disable(encoder.forward)
    net.backbone = wrap(net.backbone)
    for text, expected in zip(('cat', 'dog', None), before):
        assert torch.allclose(predict(net, text), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before[0], before[1])


def test_text_without_an_instruction_is_an_error():
    with pytest.raises(InputError, match='StandaloneDITViT has a text_encoder and no instruction'):
        MODELS.build(encoder(instruction=None))


def test_sentences_that_would_not_reach_it_are_an_error():
    with pytest.raises(InputError, match='has no text, and its model passes no sentences on: .*InstructedEncoderDecod'):
        predict(model(text=None), 'cat')


def test_an_image_without_a_sentence_among_others_has_the_text_of_the_backbone():
    net = model('InstructedEncoderDecoder', text='red box').eval()
    sizes = [(32, 32)] * 2
    logits = []
    for texts in ((None, 'cat'), ('red box', 'cat')):
        data = dict(inputs=batch(sizes, ['cat'] * 2)['inputs'], data_samples=[sample((32, 32), text) for text in texts])
        logits.append(torch.stack([found.seg_logits.data for found in net.test_step(data)]))
    assert torch.equal(*logits) and not torch.allclose(*logits[0])


@pytest.mark.parametrize('text', [['cat'], 3])
def test_what_is_no_sentence_is_named(text):
    """mmdet's `RefCocoDataset` gives a list."""
    with pytest.raises(InputError, match=f'is a {type(text).__name__}: give one sentence for each image, a str'):
        predict(model('InstructedEncoderDecoder'), text)


def test_an_image_without_a_sentence_is_named():
    net = model('InstructedEncoderDecoder', text=None)
    with pytest.raises(InputError, match="data sample 0 has no 'text'.*meta_keys"):
        predict(net, None)
    net = MODELS.build(
        dict(type='InstructedEncoderDecoder', data_preprocessor=PREPARE, backbone=backbone(), decode_head=HEAD)
    )
    with pytest.raises(InputError, match='DITViT takes none: set model.backbone.type=StandaloneDITViT'):
        predict(net, 'cat')


def test_sam_weights_do_not_touch_the_text_encoder(tmp_path):
    sam = randomize(MODELS.build(SAM))
    words = randomize(MODELS.build(text_encoder()), 1)
    torch.save({f'image_encoder.{name}': value for name, value in sam.state_dict().items()}, tmp_path / 'sam.pth')
    torch.save(words.state_dict(), tmp_path / 'words.pth')
    pretrained = {name: dict(type='Pretrained', checkpoint=str(tmp_path / f'{name}.pth')) for name in ('sam', 'words')}
    net = MODELS.build(
        backbone(
            type='StandaloneDITViT', init_cfg=pretrained['sam'], text_encoder=text_encoder(init_cfg=pretrained['words'])
        )
    )
    net.init_weights()
    for name, value in sam.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name
    for name, value in words.state_dict().items():
        assert torch.equal(net.text_encoder.state_dict()[name], value), name


@pytest.mark.parametrize(
    'stages, frozen',
    [(-1, set()), (0, {'pos_embed', 'patch_embed'}), (2, {'pos_embed', 'patch_embed', 'blocks.0', 'blocks.1'})],
)
def test_frozen_stages(stages, frozen):
    net = MODELS.build(backbone(frozen_stages=stages))
    still = {
        '.'.join(name.split('.')[:2]) if name.startswith('blocks') else name.split('.')[0]
        for name, parameter in net.named_parameters()
        if not parameter.requires_grad
    }
    assert still == frozen
    with pytest.raises(InputError, match='frozen_stages=4 must be -1 .* to 3'):
        MODELS.build(backbone(frozen_stages=4))


def test_recomputed_activations_give_the_same_gradients():
    outputs = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        net = randomize(MODELS.build(encoder(with_cp=with_cp, arch=ARCH))).eval()
        loss = net(noise(1, 3, 32, 40))[0].square().mean()
        loss.backward()
        outputs.append((loss.item(), net.blocks[0].attn.qkv.weight.grad.norm().item()))
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-5)
