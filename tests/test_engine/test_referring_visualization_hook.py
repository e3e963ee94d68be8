from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import PixelData
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer


@pytest.fixture
def runner(tmp_path):
    visualizer = SegLocalVisualizer(vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path))
    return SimpleNamespace(visualizer=visualizer, message_hub=MessageHub('pictures'))


@pytest.fixture
def samples(tmp_path):
    """Two sentences about one grey image; the left half is predicted for each."""
    path = str(tmp_path / 'photo.png')
    mmcv.imwrite(np.full((480, 480, 3), 128, np.uint8), path)
    half = torch.zeros(1, 480, 480, dtype=torch.long)
    half[..., :240] = 1
    metas = [dict(img_path=path, text=text, sent_id=number) for number, text in ((1, 'left'), (2, 'the other left'))]
    return [SegDataSample(metainfo=meta, pred_sem_seg=PixelData(data=half)) for meta in metas]


def pictures(tmp_path) -> dict:
    return {path.name: mmcv.imread(str(path)) for path in sorted(tmp_path.rglob('vis_image/*.png'))}


def test_each_sentence_gets_a_picture(tmp_path, runner, samples):
    samples[1].gt_sem_seg = samples[1].pred_sem_seg
    HOOKS.build(dict(type='ReferringVisualizationHook', draw=True)).after_test_iter(runner, 0, {}, samples)
    drawn = pictures(tmp_path)
    assert list(drawn) == ['test_photo_left_1_0.png', 'test_photo_the-other-left_2_0.png']
    picture = drawn['test_photo_left_1_0.png']
    assert (picture[100, 400] == 128).all() and (picture[100, 100] != 128).any()


@pytest.mark.parametrize('draw, interval, drawn', [(False, 1, 0), (True, 1, 2), (True, 2, 0)])
def test_drawing_in_validation_is_off_by_default_and_has_an_interval(tmp_path, runner, samples, draw, interval, drawn):
    hook = HOOKS.build(dict(type='ReferringVisualizationHook', draw=draw, interval=interval))
    hook.after_val_iter(runner, 0, {}, samples)
    assert len(pictures(tmp_path)) == drawn
