import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose, RandomChoiceResize
from mmengine.dataset import pseudo_collate
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data._utils.pin_memory import pin_memory

from dit_sam.datasets.masks import encode_segmentation, unite
from dit_sam.datasets.transforms import (
    AddTextEncoderImage,
    LoadReferringMask,
    PackReferringInputs,
    ReferringFlip,
    ReferringResize,
)
from dit_sam.errors import InputError

BOX = np.zeros((4, 6), np.uint8)
BOX[1:3, 1:4] = 1  # rows 1 and 2, columns 1 to 3


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def annotated(segmentation, ori_shape=(4, 6)) -> dict:
    return dict(segmentation=segmentation, height=4, width=6, ori_shape=ori_shape, img_path='a.jpg', ann_id=7)


@pytest.mark.parametrize(
    'segmentation',
    [
        [[1, 1, 4, 1, 4, 3, 1, 3]],
        [[1, 1, 2, 1, 2, 3, 1, 3], [2, 1, 4, 1, 4, 3, 2, 3]],
        dict(size=[4, 6], counts=[5, 2, 2, 2, 2, 2, 9]),
        coco_mask.encode(np.asfortranarray(BOX)),
        dict(size=[4, 6], counts=coco_mask.encode(np.asfortranarray(BOX))['counts'].decode()),
    ],
    ids=['polygon', 'polygons', 'RLE', 'compressed bytes', 'compressed text'],
)
def test_mask(segmentation):
    results = LoadReferringMask()(annotated(segmentation))
    assert results['seg_fields'] == ['gt_seg_map']
    assert results['gt_seg_map'].dtype == np.uint8
    np.testing.assert_array_equal(results['gt_seg_map'], BOX)


# Without pixels whose center falls between two others, where rounding would decide.
@pytest.mark.parametrize('size', [(56, 64), (40, 32), (120, 96)])
def test_a_resized_mask_stays_on_its_picture(size):
    """As Pillow's nearest neighbor, which samples at the centers of pixels; OpenCV's moves masks right and down."""
    mask = np.random.default_rng(1).integers(0, 2, (60, 80), dtype=np.uint8)
    results = dict(img=picture(60, 80), gt_seg_map=mask)
    resized = ReferringResize(scale=size[::-1], keep_ratio=False)(results)['gt_seg_map']
    np.testing.assert_array_equal(resized, Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    # A white rectangle in a black picture: the mask is where the picture is more white than black.
    mask[:], results['img'] = 0, np.zeros((60, 80, 3), np.uint8)
    mask[12:36, 20:68] = 1
    results = dict(img=mask[..., None].repeat(3, 2) * 255, gt_seg_map=mask)
    resized = ReferringResize(scale=size[::-1], keep_ratio=False)(results)
    edge = (resized['img'][..., 0] > 127) != (resized['gt_seg_map'] == 1)
    assert edge.mean() < 0.01


def test_image_of_another_size_is_an_error():
    with pytest.raises(ValueError) as caught:
        LoadReferringMask()(annotated([[1, 1, 4, 1, 4, 3]], ori_shape=(6, 4)))
    for part in (
        'a.jpg',
        '(6, 4)',
        '(4, 6)',
        'annotation 7',
        'One of the two',
        'EXIF',
        'as shown',
        'as stored',
        'color_ignore_orientation',
    ):
        assert part in str(caught.value)
    with pytest.raises(ValueError, match=r'is \(5, 4\) .* was drawn on \(4, 6\): one of the two is another picture$'):
        LoadReferringMask()(annotated([[1, 1, 4, 1, 4, 3]], ori_shape=(5, 4)))


def test_rle_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r'Annotation 7 of a\.jpg: has an RLE of size \[6, 4\]'):
        LoadReferringMask()(annotated(dict(size=[6, 4], counts=[24])))


# In 4 x 6 pixels two squares of 2 x 2 that share one pixel, and an object on that pixel and the one below it.
SQUARES = [[1, 0, 3, 0, 3, 2, 1, 2], [2, 1, 4, 1, 4, 3, 2, 3]]
OTHER = dict(size=[4, 6], counts=[9, 2, 13])  # rows 1 and 2 of column 2


@pytest.mark.parametrize(
    'outlines, once, twice',
    [
        ([SQUARES], 4 + 4 - 2, 4 + 4 - 1),
        ([SQUARES, OTHER], 4 + 4 - 1, 4 + 4 - 1),  # objects are always united
        ([[OTHER, dict(size=[4, 6], counts=[0, 10, 14])]], 10 + 2 - 2, 10 + 2 - 1),
    ],
)
def test_overlaps_of_polygons_of_one_object_can_be_outside(outlines, once, twice):
    masks = [encode_segmentation(outline, 4, 6) for outline in outlines]
    item = dict(annotated(dict(size=[4, 6], counts=unite(masks, 4, 6))), outlines=outlines)
    assert LoadReferringMask()(dict(item))['gt_seg_map'].sum() == twice
    found = LoadReferringMask(covered_twice=False)(dict(item))['gt_seg_map']
    assert (found.sum(), found.dtype) == (once, np.uint8)


def test_ground_truth_can_be_drawn_from_scaled_polygons():
    """Half a column, which covers no whole pixel, is 40 of 480; each pixel of an RLE becomes 120 x 80.

    The half column is in two polygons of one object.
    """
    half = [[1.5, 1, 2, 1, 2, 2, 1.5, 2], [1.5, 2, 2, 2, 2, 3, 1.5, 3]]
    rle = dict(size=[4, 6], counts=[21, 1, 2])
    item = dict(annotated(dict(size=[4, 6], counts=[24])), outlines=[half, rle])
    results = LoadReferringMask(scaled_side=480)(item)
    drawn = coco_mask.decode(results['scaled_truth'])
    expected = np.zeros((480, 480), np.uint8)
    expected[120:360, 120:160] = expected[120:240, 400:480] = 1
    np.testing.assert_array_equal(drawn, expected)
    assert not results['gt_seg_map'].any()


@pytest.mark.parametrize('options', [dict(covered_twice=False), dict(scaled_side=480)])
def test_options_that_need_polygons_say_how_to_keep_them(options):
    with pytest.raises(
        InputError, match='Annotation 7 of a.jpg: .* need its polygons: set keep_outlines=True in the data'
    ):
        LoadReferringMask(**options)(annotated([[1, 1, 4, 1, 4, 3]]))
    with pytest.raises(InputError, match='Annotation 7 of a.jpg: has a polygon of 2 numbers'):
        LoadReferringMask(**options)(dict(annotated([[1, 1, 4, 1, 4, 3]]), outlines=[[[1, 2]]]))
    for side in (0, 480.0, True, '480', 70000):
        with pytest.raises(InputError, match=f'is a whole number of pixels from 1 to 65535 or None, got {side!r}'):
            LoadReferringMask(scaled_side=side)


def test_ground_truth_keeps_the_original_size_after_a_resize():
    results = dict(annotated([[1, 1, 4, 1, 4, 3, 1, 3]]), img=picture(4, 6), img_shape=(4, 6))
    results = Compose([RandomChoiceResize(scales=[(12, 12)], keep_ratio=True), LoadReferringMask()])(results)
    assert results['img'].shape == (8, 12, 3)
    np.testing.assert_array_equal(results['gt_seg_map'], BOX)


def test_the_image_of_the_text_encoder_is_rgb_from_minus_one_to_one_and_resized_bicubically():
    """OpenCV's bicubic weights are torch's."""
    img = picture(2, 2)
    same = AddTextEncoderImage(size=2)(dict(img=img))['text_encoder_image']
    for channel, color in enumerate((2, 1, 0)):
        np.testing.assert_allclose(same[channel], (img[..., color] / 255 - 0.5) / 0.5, atol=1e-5)
    img = picture(3, 3)
    larger = AddTextEncoderImage(size=5, mean=(0, 0, 0), std=(1, 1, 1))(dict(img=img))['text_encoder_image']
    expected = cv2.resize(img[..., ::-1] / np.float32(255), (5, 5), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(larger.permute(1, 2, 0), expected, atol=1e-5)


def test_pack():
    results = dict(
        annotated([[1, 1, 4, 1, 4, 3, 1, 3]]),
        img=picture(4, 6),
        text='left box',
        kind='place',
        img_id=1,
        ref_id=2,
        sent_id=3,
        flip=False,
    )
    packed = PackReferringInputs()(ReferringFlip(prob=1)(LoadReferringMask()(results)))
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 4, 6)
    np.testing.assert_array_equal(sample.gt_sem_seg.data.numpy(), BOX[None, :, ::-1])
    assert sample.metainfo == dict(
        text='right box',
        kind='place',
        img_id=1,
        ref_id=2,
        ann_id=7,
        sent_id=3,
        img_path='a.jpg',
        ori_shape=(4, 6),
        flip=True,
        flip_direction='horizontal',
    )


def test_a_data_loader_pins_the_mask_too(monkeypatch):
    """In a collated batch. Without a GPU nothing can be pinned, so the tensors that would be are recorded."""
    results = dict(annotated([[1, 1, 4, 1, 4, 3, 1, 3]]), img=picture(4, 6), img_shape=(4, 6), text='the box')
    packed = PackReferringInputs()(LoadReferringMask()(results))
    pinned_ones = []

    def pin(tensor, *_):
        pinned_ones.append(tensor.clone())
        return pinned_ones[-1]

    monkeypatch.setattr(torch.Tensor, 'pin_memory', pin)
    batch = pin_memory(pseudo_collate([packed, packed]))
    assert len(pinned_ones) == 4
    for image, sample in zip(batch['inputs'], batch['data_samples']):
        assert any(image is one for one in pinned_ones)
        assert any(sample.gt_sem_seg.data is one for one in pinned_ones)
        assert torch.equal(sample.gt_sem_seg.data, packed['data_samples'].gt_sem_seg.data)
        assert sample.metainfo == packed['data_samples'].metainfo
