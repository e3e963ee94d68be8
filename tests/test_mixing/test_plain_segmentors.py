"""Cases outside the table of combinations: a head of two classes, and `DITViT` without text."""

import numpy as np
import pytest
import torch
from combinations import DIT
from mmengine.analysis import get_model_complexity_info
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from small import moved_parts
from tiny import backbone, batch, decode_head, randomize, sample, segmentor

NORMALIZE = dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[50.0] * 3, seg_pad_val=0)

TWO_CLASSES = dict(
    type='FCNHead', in_channels=16, in_index=3, channels=8, num_convs=1, num_classes=2, norm_cfg=dict(type='BN')
)


def step(model) -> None:
    log = model.train_step(batch([(64, 64), (48, 64)]), OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
    assert log['loss'].isfinite()


def test_a_head_of_two_classes_segments_by_sentence():
    model = segmentor(
        data_preprocessor=dict(type='ReferringDataPreProcessor', size=(64, 64)), backbone=DIT, decode_head=TWO_CLASSES
    ).train()
    assert moved_parts(model, lambda: step(model)) == {'backbone', 'decode_head', 'text_encoder'}
    model.eval()
    cat, dog = (model(**model.data_preprocessor(batch([(64, 64)], [text]))) for text in ('cat', 'dog'))
    assert cat.shape[1] == 2 and (cat - dog).abs().max() > 1e-6
    data = batch([(64, 64), (48, 64)])
    data['data_samples'] = [sample((64, 64), ori_shape=(30, 30)), sample((48, 64), 'cat', ori_shape=(75, 100))]
    for result, shape in zip(model.test_step(data), [(1, 30, 30), (1, 75, 100)]):
        assert result.pred_sem_seg.data.shape == shape
        assert set(result.pred_sem_seg.data.unique().tolist()) <= {0, 1}


def test_ditvit_trains_and_predicts_in_mmsegs_segmentor(capsys):
    """The log says that sentences change nothing."""
    model = randomize(
        MODELS.build(
            dict(
                type='EncoderDecoder',
                data_preprocessor=dict(NORMALIZE, size=(64, 64)),
                backbone=DIT,
                decode_head=TWO_CLASSES,
                test_cfg=ConfigDict(mode='whole'),
            )
        )
    )
    model.train()
    step(model)
    first, other = (model.eval().test_step(batch([(64, 64)], [text]))[0] for text in ('cat', 'dog'))
    assert first.pred_sem_seg.data.shape == (1, 64, 64)
    assert torch.equal(first.seg_logits.data, other.seg_logits.data), 'mmseg hands no sentence to a backbone'
    assert capsys.readouterr().out.count('DITViT has an instruction and gets no text') == 1


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_sams_head_predicts_in_mmsegs_segmentor(mode, capsys):
    """Also for images whose metainfo comes from mmcv's Resize alone, without `pad_shape`, and for tiles."""
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=NORMALIZE,
            backbone={key: value for key, value in backbone(type='SAMViT').items() if key != 'instruction'},
            decode_head=decode_head(),
            test_cfg=ConfigDict(mode=mode, crop_size=(32, 32), stride=(24, 24)),
        )
    )
    shapes = dict(img_shape=(32, 48), ori_shape=(16, 24))
    data = dict(
        inputs=[torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 48), dtype=np.uint8))],
        data_samples=[SegDataSample(metainfo=shapes)],
    )
    for _ in range(2):
        assert randomize(model).eval().test_step(data)[0].pred_sem_seg.data.shape == (1, 16, 24)
    assert capsys.readouterr().out.count('SAMHead has text_dims=16 and gets no text') == 1


def test_the_cost_of_an_encoder_that_trains_is_counted():
    """mmengine's counter traces the module with gradients."""
    encoder = MODELS.build({key: value for key, value in backbone(type='SAMViT').items() if key != 'instruction'})
    assert get_model_complexity_info(encoder, (3, 32, 32), show_table=False, show_arch=False)['flops'] > 0
