from types import SimpleNamespace

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.logging import MessageHub
from mmengine.structures import PixelData
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer
from PIL import Image


@pytest.fixture
def make_runner(tmp_path):
    """A fake Runner with the attributes that the hook uses, visualizer and message hub, and with these backends."""

    def make(*backends: str) -> SimpleNamespace:
        visualizer = SegLocalVisualizer(vis_backends=[dict(type=name) for name in backends], save_dir=str(tmp_path))
        return SimpleNamespace(visualizer=visualizer, message_hub=MessageHub('pictures'))

    return make


@pytest.fixture
def runner(make_runner):
    return make_runner('NumberedVisBackend')


@pytest.fixture
def samples(tmp_path):
    """Two sentences about one gray image; the left half is predicted for each."""
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
    assert list(drawn) == ['test_photo_left_1_0_1.png', 'test_photo_the-other-left_2_0_1.png']
    picture = drawn['test_photo_left_1_0_1.png']
    assert (picture[100, 400] == 128).all() and (picture[100, 100] != 128).any()


@pytest.mark.parametrize('draw, interval, drawn', [(False, 1, 0), (True, 1, 2), (True, 2, 0)])
def test_drawing_in_validation_is_off_by_default_and_has_an_interval(tmp_path, runner, samples, draw, interval, drawn):
    hook = HOOKS.build(dict(type='ReferringVisualizationHook', draw=draw, interval=interval))
    hook.after_val_iter(runner, 0, {}, samples)
    assert len(pictures(tmp_path)) == drawn


def test_equal_items_and_other_runs_overwrite_nothing(tmp_path, make_runner, samples):
    """Two items that look the same by image, sentence and number; then a second run into the same folder."""
    twin = samples[0].clone()
    twin.set_metainfo(dict(img_path=str(tmp_path / 'elsewhere' / 'photo.png')))
    mmcv.imwrite(np.zeros((480, 480, 3), np.uint8), twin.img_path)
    for _ in range(2):
        hook = HOOKS.build(dict(type='ReferringVisualizationHook', draw=True))
        runner = make_runner('NumberedVisBackend')
        hook.before_test_epoch(runner)
        for sample in (samples[0], twin):
            hook.after_test_iter(runner, 0, {}, [sample])
    drawn = pictures(tmp_path)
    assert sorted(drawn) == sorted(f'test_photo_left_1{twin}_0_{run}.png' for twin in ('', '_2') for run in (1, 2))
    assert all((drawn[f'test_photo_left_1_2_0_{run}.png'][100, 400] == 0).all() for run in (1, 2))


def test_every_rank_draws_its_items(tmp_path, runner, samples, monkeypatch):
    """mmengine's visualizer writes on rank 0 alone. Items without an id differ in their index."""
    for number, sample in enumerate(samples):
        sample.set_metainfo(dict(text='left', sample_idx=number))
        del sample.sent_id
    for rank, sample in enumerate(samples):
        monkeypatch.setattr('dit_sam.visualization.hook.is_main_process', lambda rank=rank: rank == 0)
        HOOKS.build(dict(type='ReferringVisualizationHook', draw=True)).after_test_iter(runner, 0, {}, [sample])
    assert sorted(pictures(tmp_path)) == ['test_photo_left_0_0_1.png', 'test_photo_left_1_0_1.png']


def test_pictures_are_drawn_as_the_data_set_reads_them(tmp_path, runner, samples):
    """A picture of 60 x 90 whose tag turns it, and a mask of the picture as stored, which is then twice as large."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.full((60, 90, 3), 128, np.uint8)
    Image.fromarray(stored).save(tmp_path / 'turned.png', exif=exif)
    mask = torch.zeros(1, 60, 90, dtype=torch.long)
    mask[..., :45] = 1
    sample = SegDataSample(metainfo=dict(img_path=str(tmp_path / 'turned.png'), text='left'))
    sample.pred_sem_seg = PixelData(data=mask)
    pipeline = Compose([dict(type='LoadImageFromFile', color_type='color_ignore_orientation')])
    loader = SimpleNamespace(dataset=SimpleNamespace(datasets=[SimpleNamespace(pipeline=pipeline)]))
    runner.test_loop = SimpleNamespace(dataloader=loader)
    HOOKS.build(dict(type='ReferringVisualizationHook', draw=True)).after_test_iter(runner, 0, {}, [sample])
    (picture,) = pictures(tmp_path).values()
    # Enlarged by a whole factor to a long side of 480 at least.
    assert picture.shape[1] == 540 and (picture[100, 400] == 128).all() and (picture[100, 100] != 128).any()


def test_names_of_pictures_differ_for_any_ids(tmp_path, runner, samples):
    """The third would get by its id the name that the second gets by its number; an id is not a path."""
    twins = [samples[0].clone() for _ in range(4)]
    for twin, number in zip(twins, (1, 1, '1_2', '../1')):
        twin.set_metainfo(dict(sent_id=number))
    hook = HOOKS.build(dict(type='ReferringVisualizationHook', draw=True))
    hook.after_test_iter(runner, 0, {}, twins)
    assert sorted(pictures(tmp_path)) == [f'test_photo_left_{name}_0_1.png' for name in ('-1', '1', '1_2', '1_2_2')]


def test_tensorboard_gets_each_picture_at_its_step(tmp_path, make_runner, samples):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed: pip install tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runner = make_runner('TensorboardVisBackend', 'NumberedVisBackend')
    hook = HOOKS.build(dict(type='ReferringVisualizationHook', draw=True, interval=1))
    for step in (10, 20):
        runner.message_hub.update_info('iter', step)
        hook.before_val_epoch(runner)
        hook.after_val_iter(runner, 0, {}, [samples[0], samples[0], samples[1]])
    runner.visualizer.close()
    folder = next(tmp_path.rglob('events.out.tfevents.*')).parent
    events = EventAccumulator(str(folder), size_guidance=dict(images=0)).Reload()
    names = ['val_photo_left_1', 'val_photo_left_1_2', 'val_photo_the-other-left_2']
    assert sorted(events.Tags()['images']) == names
    assert all([event.step for event in events.Images(name)] == [10, 20] for name in names)
    image = cv2.imdecode(np.frombuffer(events.Images(names[0])[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(image, pictures(tmp_path)['val_photo_left_1_10_1.png'])


def test_wandb_gets_each_picture(tmp_path, make_runner, samples, monkeypatch):
    pytest.importorskip('wandb', reason='wandb is not installed: pip install wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.chdir(tmp_path)
    runner = make_runner('WandbVisBackend')
    HOOKS.build(dict(type='ReferringVisualizationHook', draw=True)).after_test_iter(
        runner, 0, {}, [samples[0], samples[0], samples[1]]
    )
    runner.visualizer.close()
    stored = sorted(path.name for path in tmp_path.rglob('media/images/*.png'))
    assert [name.rsplit('_', 2)[0] for name in stored] == [
        'test_photo_left_1',
        'test_photo_left_1_2',
        'test_photo_the-other-left_2',
    ]
