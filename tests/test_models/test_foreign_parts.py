"""This project's parts among mmseg's: its backbones under `SAMHead`, `DITViT` under its heads and in its segmentor."""
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from tiny import backbone, batch, decode_head, randomise, sample, segmentor

BN = dict(type='BN')
RESNET = dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=BN)
MIT = dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1] * 4, num_heads=[1] * 4, mlp_ratio=2)
FPN = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=16, num_outs=4)

# Each with the head's channels, and the stride of its output: a quarter of that of the map.
BACKBONES = {
    'ResNet': (dict(backbone=RESNET, decode_head=decode_head(in_channels=64)), 8),
    'ResNet and FPN': (dict(backbone=RESNET, neck=FPN, decode_head=decode_head(in_index=0)), 1),
    'MixVisionTransformer': (dict(backbone=MIT, decode_head=decode_head(in_channels=8)), 8),
}

ONE_CHANNEL = dict(
    num_classes=2, out_channels=1, threshold=0.4, norm_cfg=BN, align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
FOUR = dict(in_channels=[16] * 4, in_index=[0, 1, 2, 3], channels=8)
HEADS = {
    'FCNHead': dict(type='FCNHead', in_channels=16, in_index=3, channels=8, num_convs=1, **ONE_CHANNEL),
    'UPerHead': dict(type='UPerHead', pool_scales=(1, 2), **FOUR, **ONE_CHANNEL),
    'SegformerHead': dict(type='SegformerHead', **FOUR, **ONE_CHANNEL),
    'two classes': dict(type='FCNHead', in_channels=16, in_index=3, channels=8, num_convs=1, num_classes=2,
                        norm_cfg=BN),
}
FOUR_BLOCKS = backbone(arch=dict(embed_dims=24, depth=4, num_heads=3, global_attn_indexes=(1, 3)),
                       out_indices=(0, 1, 2, 3))


def check(model) -> None:
    """One training step moves weights in every part; predictions have the original sizes."""
    model.train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optim_wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1))
    log = model.train_step(batch([(64, 64), (48, 64)]), optim_wrapper)
    assert log['loss'].isfinite()
    moved = {name.split('.')[0] for name, new in model.named_parameters() if not torch.equal(new, before[name])}
    assert moved == {name.split('.')[0] for name in before}
    model.eval()
    data = batch([(64, 64), (48, 64)])
    data['data_samples'] = [sample((64, 64), ori_shape=(30, 30)), sample((48, 64), 'cat', ori_shape=(75, 100))]
    shapes = [(1, 30, 30), (1, 75, 100)]
    for result, shape in zip(model.test_step(data), shapes):
        assert result.pred_sem_seg.data.shape == shape
        assert set(result.pred_sem_seg.data.unique().tolist()) <= {0., 1.}


def text_matters(model) -> bool:
    model.eval()
    outputs = [model(**model.data_preprocessor(batch([(64, 64)], [text]))) for text in ('cat', 'dog')]
    return (outputs[0] - outputs[1]).abs().max().item() > 1e-6


def build(**parts):
    return segmentor(data_preprocessor=dict(type='ReferringDataPreProcessor', size=(64, 64)), **parts)


@pytest.mark.parametrize('name', BACKBONES)
def test_mmseg_backbones_under_sam_s_head(name):
    parts, stride = BACKBONES[name]
    model = build(**parts)
    assert model.eval()(**model.data_preprocessor(batch([(64, 64)], ['cat']))).shape[2] == 64 // stride
    check(model)
    assert text_matters(model)


@pytest.mark.parametrize('name', HEADS)
def test_dit_under_mmseg_heads(name):
    model = build(backbone=FOUR_BLOCKS, decode_head=HEADS[name])
    check(model)
    assert text_matters(model)


def test_dit_in_a_plain_encoder_decoder_is_sam_s_encoder():
    model = randomise(MODELS.build(dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), mean=[0.] * 3, std=[50.] * 3, seg_pad_val=0),
        backbone=FOUR_BLOCKS,
        decode_head=HEADS['two classes'],
        test_cfg=ConfigDict(mode='whole'))))
    model.train()
    data = batch([(64, 64), (64, 64)])
    log = model.train_step(data, OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
    assert log['loss'].isfinite()
    results = model.eval().test_step(batch([(64, 64)], ['cat']))
    assert results[0].pred_sem_seg.data.shape == (1, 64, 64)
