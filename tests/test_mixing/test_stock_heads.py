"""mmseg heads that accept the maps of mmseg's ViT also accept those of our encoders."""

import pytest
import torch
from combinations import BACKBONES, BN
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from tiny import batch, sample

SIZE = (64, 64)
ALL_MAPS = dict(in_channels=[24] * 4, in_index=[0, 1, 2, 3])
TWO_MAPS = dict(in_channels=[24] * 2, in_index=[2, 3])
HEADS = {
    'ANNHead': dict(TWO_MAPS, project_channels=4),
    'APCHead': dict(pool_scales=(1, 2)),
    'ASPPHead': dict(dilations=(1, 2)),
    'CCHead': {},
    'DAHead': dict(pam_channels=4),
    'DMHead': dict(filter_sizes=(1, 3)),
    'DNLHead': {},
    'DepthwiseSeparableASPPHead': dict(dilations=(1, 2), c1_in_channels=0, c1_channels=0),
    'DepthwiseSeparableFCNHead': {},
    'EMAHead': dict(ema_channels=8, num_bases=4, num_stages=1),
    'EncHead': dict(ALL_MAPS, num_codes=4, loss_se_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)),
    'FCNHead': {},
    'FPNHead': dict(ALL_MAPS, feature_strides=[8] * 4),
    'GCHead': {},
    'ISAHead': dict(isa_channels=4, down_factor=(2, 2)),
    'LightHamHead': dict(ALL_MAPS, ham_channels=8, ham_kwargs=dict(MD_R=2)),
    'NLHead': {},
    'OCRHead': dict(ocr_channels=8),
    'PSPHead': dict(pool_scales=(1, 2)),
    'PointHead': dict(ALL_MAPS, num_fcs=1, norm_cfg=None),
    'SETRMLAHead': dict(ALL_MAPS, mla_channels=2),
    'SETRUPHead': dict(num_convs=1),
    'SegformerHead': ALL_MAPS,
    'SegmenterMaskTransformerHead': dict(num_layers=1, num_heads=2, embed_dims=24, norm_cfg=dict(type='LN')),
    'UPerHead': dict(ALL_MAPS, pool_scales=(1, 2)),
}
CASCADED = ('OCRHead', 'PointHead')


def build(name: str) -> torch.nn.Module:
    """A model of mmseg with the head over the maps of `SAMViT` at stride 8, without its neck."""
    shared = dict(in_channels=24, in_index=-1, channels=8, num_classes=3, norm_cfg=BN, align_corners=False)
    heads = [dict(shared, type='FCNHead', num_convs=1), {**shared, 'type': name, **HEADS[name]}]
    kind = dict(type='EncoderDecoder', decode_head=heads[-1])
    if name in CASCADED:
        kind = dict(type='CascadeEncoderDecoder', decode_head=heads, num_stages=2)
    return MODELS.build(
        dict(
            kind,
            data_preprocessor=dict(
                type='SegDataPreProcessor', size=SIZE, mean=[0.0] * 3, std=[50.0] * 3, seg_pad_val=0
            ),
            backbone=dict(BACKBONES['SAMViT'][0], out_channels=0),
            train_cfg=ConfigDict(num_points=16, oversample_ratio=3, importance_sample_ratio=0.75),
            test_cfg=ConfigDict(mode='whole', subdivision_steps=1, subdivision_num_points=16, scale_factor=2),
        )
    )


@pytest.mark.parametrize('name', HEADS)
def test_a_stock_head_trains_and_predicts(name):
    model = build(name)
    data = model.data_preprocessor(batch([SIZE, SIZE]), True)
    losses, _ = model.parse_losses(model(**data, mode='loss'))
    losses.backward()
    assert losses.isfinite() and model.backbone.pos_embed.grad.abs().sum() > 0
    with torch.no_grad():
        (prediction,) = model.eval().test_step(
            dict(batch([SIZE], ['cat']), data_samples=[sample(SIZE, None, (30, 75))])
        )
    assert prediction.seg_logits.data.shape == (3, 30, 75) and prediction.seg_logits.data.isfinite().all()
