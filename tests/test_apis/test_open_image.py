"""Images that are kept open: results of ordinary calls, and one pass through what does not depend on text."""

import os
import time

import cv2
import pytest
import torch
from mmengine.config import Config
from tiny_inferencer import assert_same, picture, save_random_weights, tiny_config

from dit_sam.apis import InputError, KeptImages, ReferringInferencer

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


class TestKeptImages:
    """Which files are read again; a, b and c have the same size, and `large` has more pixels."""

    @pytest.fixture
    def read(self) -> list[str]:
        return []

    @pytest.fixture
    def kept(self, tmp_path, read):
        """Makes `KeptImages` with some limits, and a function that asks it for files by name."""
        inferencer = ReferringInferencer(late_config(1), device='cpu')
        for seed, name in enumerate(('a', 'b', 'c')):
            cv2.imwrite(str(tmp_path / f'{name}.png'), picture(seed=seed))
        cv2.imwrite(str(tmp_path / 'large.png'), picture(600, 900))

        def open_image(path: str):
            read.append(os.path.basename(path)[:-4])
            return inferencer.open(path)

        def make(**limits):
            images = KeptImages(open_image, **limits)
            return images, lambda names: [images(str(tmp_path / f'{name}.png')) for name in names.split()]

        return make

    def test_the_images_that_were_asked_last_are_kept(self, kept, read):
        images, ask = kept(number=2)
        first, _, again = ask('a b a')
        assert first is again and first('circle')['predictions']
        ask('c a b')
        assert read == ['a', 'b', 'c', 'b'] and len(images) == 2

    def test_they_take_no_more_bytes_than_allowed(self, kept, read):
        _, ask = kept()
        a, large = ask('a large')
        # Pixels as read, resized and packed, and tokens of 18 x 18 patches of 8 pixels with 32 numbers.
        assert a.nbytes == 60 * 90 * 3 + 2 * 96 * 144 * 3 + 18 * 18 * 32 * 4
        assert large.nbytes == a.nbytes + (600 * 900 - 60 * 90) * 3
        read.clear()
        images, ask = kept(nbytes=2 * a.nbytes)
        ask('a b c c a large b a')
        assert read == ['a', 'b', 'c', 'a', 'large', 'b'] and len(images) == 2

    def test_they_are_dropped_after_a_time_without_a_question(self, kept, read):
        images, ask = kept(seconds=0.5)
        ask('a')
        end = time.monotonic() + 20
        while len(images) and time.monotonic() < end:
            time.sleep(0.05)
        assert not len(images)
        ask('a')
        assert read == ['a', 'a']

    def test_a_changed_file_is_read_again(self, kept, read, tmp_path):
        _, ask = kept()
        ask('a')
        cv2.imwrite(str(tmp_path / 'a.png'), picture(70, 90))
        ask('a')
        assert read == ['a', 'a']
