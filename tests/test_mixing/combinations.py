"""Which backbones, necks and heads run together in `ReferringSegmentor`.

`python tests/test_mixing/combinations.py` runs all of them and writes the table on docs/mixing.md.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope

import dit_sam  # noqa: F401

sys.path.append(str(Path(__file__).parents[1] / 'test_models'))

from tiny import backbone, batch, decode_head, sample, segmentor

PAGE = Path(__file__).parents[2] / 'docs' / 'mixing.md'
TABLE = re.compile(r'(?<=<!-- table -->\n).*?(?=<!-- end of table -->)', re.DOTALL)
SIZES = ((64, 64), (48, 80), (56, 40))
BN = dict(type='BN')

DIT = backbone(
    arch=dict(embed_dims=24, depth=4, num_heads=3, global_attn_indexes=(1, 3)), out_indices=(0, 1, 2, 3), img_size=64
)
# Name -> config, channels and strides of the maps, and whether it takes text.
BACKBONES = {
    'DITViT': (DIT, [16] * 4, [8] * 4),
    'DITViT, E-DIT': (dict(DIT, instruction=dict(type='EndToEndInstruction', text_dims=16)), [16] * 4, [8] * 4),
    'SAMViT': (
        {**{key: value for key, value in DIT.items() if key != 'instruction'}, 'type': 'SAMViT'},
        [16] * 4,
        [8] * 4,
    ),
    'ResNet': (
        dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=BN),
        [8, 16, 32, 64],
        [4, 8, 16, 32],
    ),
    'Swin': (
        dict(
            type='SwinTransformer',
            pretrain_img_size=64,
            embed_dims=8,
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 2, 2),
            window_size=3,
        ),
        [8, 16, 32, 64],
        [4, 8, 16, 32],
    ),
    'MixVisionTransformer': (
        dict(type='MixVisionTransformer', embed_dims=8, num_layers=[1] * 4, num_heads=[1] * 4, mlp_ratio=2),
        [8] * 4,
        [4, 8, 16, 32],
    ),
    'VisionTransformer': (
        dict(
            type='VisionTransformer',
            img_size=64,
            patch_size=8,
            embed_dims=16,
            num_layers=4,
            num_heads=2,
            out_indices=(0, 1, 2, 3),
        ),
        [16] * 4,
        [8] * 4,
    ),
    'HRNet': (
        dict(
            type='HRNet',
            norm_cfg=BN,
            extra={
                f'stage{i}': dict(
                    num_modules=1,
                    num_branches=max(i, 1),
                    block='BOTTLENECK' if i == 1 else 'BASIC',
                    num_blocks=(1,) * i,
                    num_channels=(8, 16, 32, 64)[:i],
                )
                for i in (1, 2, 3, 4)
            },
        ),
        [8, 16, 32, 64],
        [4, 8, 16, 32],
    ),
    'MSCAN': (
        dict(type='MSCAN', embed_dims=[8, 16, 16, 16], mlp_ratios=[2] * 4, depths=[1] * 4, norm_cfg=BN),
        [8, 16, 16, 16],
        [4, 8, 16, 32],
    ),
}
# Backbones that need another package; the tests run them if it is installed.
ELSEWHERE = {
    'timm': (
        dict(type='TIMMBackbone', model_name='resnet10t', pretrained=False),
        [64, 64, 128, 256, 512],
        [2, 4, 8, 16, 32],
    ),
    'mmpretrain': (
        dict(
            type='mmpretrain.ConvNeXt',
            arch=dict(depths=[1] * 4, channels=[8, 16, 32, 64]),
            out_indices=(0, 1, 2, 3),
            gap_before_final_norm=False,
        ),
        [8, 16, 32, 64],
        [4, 8, 16, 32],
    ),
}
HEADS = {
    'SAMHead': {},
    'FCNHead': dict(in_index=-1, num_convs=1),
    'UPerHead': dict(pool_scales=(1, 2)),
    'SegformerHead': {},
    'PSPHead': dict(in_index=-1, pool_scales=(1, 2)),
    'ASPPHead': dict(in_index=-1, dilations=(1, 2)),
    'FPNHead': {},
    'SETRUPHead': dict(in_index=-1, num_convs=1),
}
PYRAMID = dict(type='Feature2Pyramid', embed_dim=16, rescales=[4, 2, 1, 0.5], norm_cfg=BN)
# Backbone, neck, head.
COMBINATIONS = [
    *[(name, '–', 'SAMHead') for name in BACKBONES],
    *[(name, 'FPN', 'SAMHead') for name in ('ResNet', 'Swin')],
    *[('DITViT', '–', head) for head in ('FCNHead', 'UPerHead', 'SegformerHead', 'PSPHead', 'ASPPHead', 'SETRUPHead')],
    *[('DITViT', 'Feature2Pyramid', head) for head in ('UPerHead', 'SegformerHead', 'FPNHead')],
    ('DITViT', 'MultiLevelNeck', 'UPerHead'),
]


@dataclass
class Row:
    """The result of a combination: the stride of its logits, where text enters, and the completed steps."""

    stride: int
    text: str
    steps: str

    def line(self, names: tuple[str, str, str]) -> str:
        return f'| {" | ".join(names)} | {self.text} | {self.stride} | {self.steps} |'


def build(names: tuple[str, str, str]) -> torch.nn.Module:
    name, neck, head = names
    encoder, channels, strides = {**BACKBONES, **ELSEWHERE}[name]
    parts = dict(backbone=encoder, data_preprocessor=dict(type='ReferringDataPreProcessor', size_divisor=8))
    if neck == 'FPN':
        parts['neck'] = dict(type='FPN', in_channels=channels, out_channels=16, num_outs=4)
    if neck == 'MultiLevelNeck':
        parts['neck'] = dict(type='MultiLevelNeck', in_channels=channels, out_channels=16, scales=[4, 2, 1, 0.5])
    if neck == 'Feature2Pyramid':
        parts['neck'] = PYRAMID
    if neck != '–':
        channels, strides = [16] * 4, [strides[2] // 4 * 2**i for i in range(4)]
    return segmentor(**parts, decode_head=_head(head, channels, strides))


def _head(name: str, channels: list[int], strides: list[int]) -> dict:
    if name == 'SAMHead':
        # The map whose stride is nearest to SAM's, with SAM's logits four times as fine.
        index = min(range(len(strides)), key=lambda i: (abs(strides[i] - 16), i))
        return decode_head(in_channels=channels[index], in_index=index)
    one = dict(
        type=name,
        num_classes=2,
        out_channels=1,
        threshold=0.4,
        norm_cfg=BN,
        align_corners=False,
        channels=8,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
        **HEADS[name],
    )
    if 'in_index' in one:
        return {**one, 'in_channels': channels[-1]}
    if name == 'FPNHead':
        one['feature_strides'] = strides
    return {**one, 'in_channels': channels, 'in_index': list(range(len(channels)))}


def _steps(model: torch.nn.Module) -> list[str]:
    """Run a training step and predictions; raise any error."""
    model.train()
    sizes = ((64, 64), (48, 64))
    losses, _ = model.parse_losses(model(**model.data_preprocessor(batch(sizes), True), mode='loss'))
    assert losses.isfinite()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)).update_params(losses)
    moved = {name.split('.')[0] for name, new in model.named_parameters() if not torch.equal(new, before[name])}
    assert moved == {name.split('.')[0] for name in before}, f'only {sorted(moved)} learn'
    model.eval()
    for size in SIZES:
        data = batch([size, size], ['cat', 'dog'])
        data['data_samples'] = [sample(size, text, ori_shape=(30, 75)) for text in ('cat', 'dog')]
        for result in model.test_step(data):
            assert result.pred_sem_seg.data.shape == (1, 30, 75)
            assert set(result.pred_sem_seg.data.unique().tolist()) <= {0.0, 1.0}
    return ['loss', 'backward', 'predict']


def _text_changes(model: torch.nn.Module) -> dict[str, bool]:
    """Whether another sentence gives other maps, and other logits."""
    found = {}
    model.eval()
    with torch.no_grad():
        images = model.data_preprocessor(batch([(64, 64)], ['cat']))['inputs']
        pairs = [
            (model.extract_feat(images, model.text_encoder([text]))[-1], model(images, [sample((64, 64), text)]))
            for text in ('cat', 'dog')
        ]
    for i, name in enumerate(('encoder', 'decoder')):
        found[name] = (pairs[0][i] - pairs[1][i]).abs().max().item() > 1e-6
    return found


def run(names: tuple[str, str, str]) -> Row:
    """Run a combination: forward, loss, backward, predict."""
    torch.manual_seed(0)
    model = build(names)
    stride = 64 // model.eval()(**model.data_preprocessor(batch([(64, 64)], ['cat']))).shape[2]
    changes = _text_changes(model)
    assert changes['decoder'], 'the sentence changes nothing'
    text = [name for name, there in (('encoder', changes['encoder']), ('decoder', names[2] == 'SAMHead')) if there]
    return Row(stride, ', '.join(text), ', '.join(['forward', *_steps(model)]))


def table() -> str:
    lines = ['| Backbone | Neck | Head | Text | Stride | What runs |', '|---|---|---|---|---|---|']
    return '\n' + '\n'.join([*lines, *(run(names).line(names) for names in COMBINATIONS)]) + '\n\n'


if __name__ == '__main__':
    init_default_scope('mmseg')
    text = table()
    PAGE.write_text(TABLE.sub(lambda _: text, PAGE.read_text(encoding='utf-8')), encoding='utf-8')
    print(text)
