"""Images that are kept open: results of ordinary calls, and one pass through what does not depend on text."""

import pytest
import torch
from mmengine.config import Config
from tiny_inferencer import assert_same, picture, save_random_weights, tiny_config

from dit_sam.apis import InputError, ReferringInferencer

SENTENCES = ['the red star', 'circle', 'the biggest shape on the left']


def late_config(start: int) -> Config:
    cfg = tiny_config()
    cfg.model.backbone.instruction.start = start
    return cfg


def default_config() -> Config:
    cfg = tiny_config()
    cfg.model.backbone.instruction = None
    channels = cfg.model.decode_head.in_channels
    cfg.model.neck = dict(type='FPN', in_channels=[channels], out_channels=channels, num_outs=1)
    return cfg


CONFIGS = dict(ldit=lambda: late_config(0), late=lambda: late_config(1), default=default_config)


@pytest.fixture(params=CONFIGS)
def inferencer(request, tmp_path) -> ReferringInferencer:
    cfg = CONFIGS[request.param]()
    save_random_weights(tmp_path / 'weights.safetensors', cfg=cfg)
    return ReferringInferencer(cfg, tmp_path / 'weights.safetensors', device='cpu', show_progress=False)


@pytest.mark.parametrize('batch_size', [1, 2, 8])
def test_an_open_image_gives_the_results_of_the_image(inferencer, batch_size):
    image = picture()
    opened = inferencer.open(image)
    assert_same(opened(SENTENCES, batch_size=batch_size), inferencer(image, SENTENCES, batch_size=batch_size))
    assert_same(opened('circle'), inferencer(image, 'circle'))
    both = inferencer([opened, picture(seed=1)], [SENTENCES, SENTENCES[:1]], batch_size=batch_size)
    assert_same(both, inferencer([image, picture(seed=1)], [SENTENCES, SENTENCES[:1]], batch_size=batch_size))


def test_parts_without_text_run_once(inferencer):
    """Also in an ordinary call with more sentences than fit into a batch; and a neck, if the backbone takes no text."""
    backbone, calls = inferencer.model.backbone, []
    for layer, block in enumerate(backbone.blocks):
        block.register_forward_pre_hook(lambda *_, layer=layer: calls.append(layer))
    if inferencer.model.with_neck:
        inferencer.model.neck.register_forward_pre_hook(lambda *_: calls.append(0))
    start = len(backbone.blocks) if backbone.instruction is None else backbone.instruction.start
    expected = [layer for layer in range(2) if layer < start] + 3 * [layer for layer in range(2) if layer >= start]
    expected += [0] * inferencer.model.with_neck
    inferencer(picture(), SENTENCES)
    assert sorted(calls) == sorted(expected)
    calls.clear()
    opened = inferencer.open(picture())
    for sentence in SENTENCES:
        opened(sentence)
    assert sorted(calls) == sorted(expected)


def test_results_do_not_hold_the_trunk(inferencer):
    (sample, *_) = inferencer.open(picture())(SENTENCES, return_datasamples=True)['predictions']
    assert 'trunk' not in sample and isinstance(sample.seg_logits.data, torch.Tensor)


def test_pictures_and_masks_of_an_open_file_have_its_name(inferencer, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / 'photo.png'), picture())
    opened = inferencer.open(tmp_path / 'photo.png')
    (prediction,) = opened('circle', out_dir=str(tmp_path / 'out'))['predictions']
    assert prediction['overlay_file'].endswith('vis/photo_circle_1.png')


def test_only_one_image_of_this_inferencer_is_opened(inferencer):
    with pytest.raises(InputError, match='open takes one image, got 2'):
        inferencer.open([picture(), picture()])
    opened = inferencer.open(picture())
    assert inferencer.open(opened) is opened
    with pytest.raises(InputError, match='image_1 was opened by another inferencer'):
        ReferringInferencer(tiny_config(), device='cpu')(opened, 'circle')
