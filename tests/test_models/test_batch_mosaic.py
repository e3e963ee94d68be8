"""Mosaics of the images of a batch."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from tiny import batch

from dit_sam.errors import InputError
from dit_sam.models import BatchMosaic

TEXTS = ['red box', 'cat', 'the box on the left', 'white dog', 'blue cat']


def preprocess(data: dict, training: bool = True, **options) -> dict:
    augment = dict(dict(type='BatchMosaic', prob=1.0), **options)
    pre = MODELS.build(dict(type='ReferringDataPreProcessor', size=(32, 32), batch_augments=[augment]))
    np.random.seed(0)
    return pre(data, training)


def five() -> dict:
    return batch([(32, 32)] * 5, TEXTS)


def quarters(image: torch.Tensor) -> list[torch.Tensor]:
    """Of (C, H, W), row by row."""
    return [part for rows in image.chunk(2, 1) for part in rows.chunk(2, 2)]


def test_an_image_gets_a_quarter_between_three_others():
    plain, mosaic = preprocess(five(), prob=0.0), preprocess(five())
    small = torch.nn.functional.interpolate(plain['inputs'], (16, 16), mode='bilinear', antialias=True)
    for number, (image, sample) in enumerate(zip(mosaic['inputs'], mosaic['data_samples'])):
        mask = sample.gt_sem_seg.data
        whole = plain['data_samples'][number].gt_sem_seg.data
        if number == 2:  # its sentence speaks of the left
            assert torch.equal(image, plain['inputs'][2]) and torch.equal(mask, whole)
            continue
        found = [next(i for i in range(5) if torch.allclose(part, small[i])) for part in quarters(image)]
        assert len(set(found)) == 4 and number in found
        for owner, part in zip(found, quarters(mask)):
            assert torch.equal(part, whole[:, 1::2, 1::2] if owner == number else torch.zeros_like(part))


def test_the_quarter_is_random_and_prob_is_the_share_of_mosaics():
    """Of 100 batches of four, about 100 of 400 items, with a standard deviation of 9, and 25 of these per quarter."""
    mosaic, places = BatchMosaic(prob=0.25), []
    np.random.seed(0)
    for _ in range(100):
        data = batch([(4, 4)] * 4, ['cat'] * 4)
        for sample in data['data_samples']:
            sample.gt_sem_seg = PixelData(data=torch.ones(1, 4, 4, dtype=torch.long))
        _, samples = mosaic(torch.zeros(4, 3, 4, 4), data['data_samples'])
        filled = [[bool(part.all()) for part in quarters(sample.gt_sem_seg.data)] for sample in samples]
        places += [parts.index(True) for parts in filled if not all(parts)]
    assert 65 < len(places) < 135
    assert all(10 < places.count(place) < 45 for place in range(4))


def test_only_training_makes_mosaics_and_few_images_make_none():
    data = five()
    assert torch.equal(preprocess(data, training=False)['inputs'], preprocess(five(), prob=0.0)['inputs'])
    three = [batch([(32, 32)] * 3, TEXTS[:2] + TEXTS[3:4]) for _ in range(2)]
    assert torch.equal(preprocess(three[0])['inputs'], preprocess(three[1], prob=0.0)['inputs'])


def test_sentences_of_an_image_get_mosaics_of_their_own():
    """Six sentences of four images: a sentence that keeps its image shares it with those that keep it too."""
    data = batch([(32, 32)] * 6, ['red box', 'left box', 'left dog', 'cat', 'dog', 'un'])
    for number in (1, 2):
        data['inputs'][number] = data['inputs'][0]
        data['data_samples'][number].set_metainfo(dict(shares_image=True))
    mosaic = preprocess(data)
    indices = [sample.metainfo['unique_image_index'] for sample in mosaic['data_samples']]
    assert indices[1] == indices[2] and len(set(indices)) == 5
    assert torch.equal(mosaic['inputs'][1], mosaic['inputs'][2])
    # No other quarter of the first one shows its own image again.
    assert len({part.sum().item() for part in quarters(mosaic['inputs'][0])}) == 4


@pytest.mark.parametrize(
    'text',
    [
        *('topleft', '2nd dog', 'the taller man', 'closer one', 'in the background', 'a big dog', 'the rear car'),
        *("donut at 12 o'clock", 'slice at 6oclock', 'sixth from the wall', 'in the distance'),
    ],
)
def test_sentences_about_places_and_sizes_are_spared(text):
    assert BatchMosaic()._spares(text)


@pytest.mark.parametrize(
    'text',
    [
        'bright shirt',
        'man on the sidewalk',
        'backpack',
        'the leftover cake',
        'a bigot',
        'a clock',
        'sixty rearview mirrors',
    ],
)
def test_other_sentences_are_not(text):
    assert not BatchMosaic()._spares(text)


def test_what_cannot_be_moved_is_refused():
    data = five()
    data['data_samples'][0].set_metainfo(dict(box=[0, 0, 4, 4]))
    with pytest.raises(InputError, match='BatchMosaic moves images and masks only'):
        preprocess(data)
    data = batch([(32, 32)], [None])
    with pytest.raises(InputError, match='BatchMosaic needs a sentence for each image'):
        preprocess(data)
    data = five()
    data['data_samples'][0].text_encoder_image = PixelData(data=torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match='BatchMosaic moves images and masks only'):
        preprocess(data)
    pre = dict(type='ReferringDataPreProcessor', size=(40, 40), pad_masks=False)
    with pytest.raises(InputError, match='leave out data_preprocessor.pad_masks=False'):
        MODELS.build(dict(pre, batch_augments=[dict(type='BatchMosaic', prob=1.0)]))(five(), True)
    odd = dict(pre, pad_masks=True, size=(33, 40), batch_augments=[dict(type='BatchMosaic')])
    with pytest.raises(InputError, match='the input has 33×40 pixels: set data_preprocessor.size to even numbers'):
        MODELS.build(odd)(five(), True)
    with pytest.raises(InputError, match=r'prob must lie in \[0, 1\], got 2'):
        MODELS.build(dict(type='BatchMosaic', prob=2))
