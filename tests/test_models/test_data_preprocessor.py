import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from tiny import assert_close, batch

from dit_sam.errors import InputError
from dit_sam.models import ReferringDataPreProcessor

PLAIN = dict(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_pixels_are_normalized_as_rgb():
    """Blue 10, green 20, red 30 with the paper's mean and deviation."""
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(3, 1, 1)
    inputs = ReferringDataPreProcessor(size=(1, 1))(dict(inputs=[image]))['inputs']
    expected = torch.tensor([(30 - 123.675) / 58.395, (20 - 116.28) / 57.12, (10 - 103.53) / 57.375])
    assert_close(inputs.view(3), expected, 1e-6)


def test_channel_order_can_be_kept():
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(3, 1, 1)
    inputs = ReferringDataPreProcessor(size=(1, 1), bgr_to_rgb=False, **PLAIN)(dict(inputs=[image]))['inputs']
    assert inputs.view(3).tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    'size,padding,whole',
    [
        ((32, 24), [4, 4, 0, 0], (32, 32)),
        ((20, 32), [0, 0, 6, 6], (32, 32)),
        ((31, 29), [1, 2, 0, 1], (32, 32)),
        ((32, 32), [0, 0, 0, 0], (32, 32)),
        ((20, 24), [12, 12, 6, 6], (32, 48)),
    ],
    ids=str,
)
def test_images_are_centered_in_zeros(size, padding, whole):
    data = batch([size], ['cat'])
    image = data['inputs'][0].float()
    result = ReferringDataPreProcessor(size=whole, bgr_to_rgb=False, **PLAIN)(data)
    left, right, top, bottom = padding
    meta = result['data_samples'][0].metainfo
    assert meta['padding_size'] == padding
    assert meta['pad_shape'] == whole
    assert meta['img_shape'] == size
    expected = torch.nn.functional.pad(image, padding)
    assert torch.equal(result['inputs'][0], expected)


def test_images_can_be_placed_in_the_corner():
    """20 × 24 in 32 × 32: 8 columns on the right, 12 rows below."""
    data = batch([(20, 24)], ['cat'])
    image, mask = data['inputs'][0].float(), data['data_samples'][0].gt_sem_seg.data
    result = ReferringDataPreProcessor(size=(32, 32), bgr_to_rgb=False, place='corner', **PLAIN)(data, training=True)
    padded = result['data_samples'][0]
    assert padded.metainfo['padding_size'] == [0, 8, 0, 12]
    assert torch.equal(result['inputs'][0], torch.nn.functional.pad(image, (0, 8, 0, 12)))
    assert torch.equal(padded.gt_sem_seg.data, torch.nn.functional.pad(mask, (0, 8, 0, 12)))
    with pytest.raises(InputError, match="data_preprocessor.place='center' is not one of middle, corner"):
        ReferringDataPreProcessor(place='center')


def test_padding_is_zero_after_normalization():
    inputs = ReferringDataPreProcessor(size=(6, 4))(dict(inputs=[torch.zeros(3, 2, 4, dtype=torch.uint8)]))['inputs']
    assert not inputs[0, :, :2].any() and not inputs[0, :, 4:].any()
    assert inputs[0, :, 2:4].all()


def test_masks_are_padded_with_background_in_training():
    data = batch([(20, 32)], ['cat'])
    mask = data['data_samples'][0].gt_sem_seg.data.clone()
    result = ReferringDataPreProcessor(size=(32, 32))(data, training=True)['data_samples'][0].gt_sem_seg.data
    assert result.shape == (1, 32, 32)
    assert result.dtype == mask.dtype
    assert torch.equal(result[:, 6:26], mask)
    assert result.sum() == mask.sum()


def test_a_mask_of_several_labels_is_refused_in_training():
    """For example of a class or an instance map. 255 are pixels that do not count."""
    data = batch([(8, 8)] * 2, ['cat', 'dog'])
    data['data_samples'][0].gt_sem_seg.data[0, 0, 0] = 255
    ReferringDataPreProcessor(size=(8, 8))(data, training=True)
    data = batch([(8, 8)] * 2, ['cat', 'dog'])
    data['data_samples'][1].set_metainfo(dict(img_path='dogs.jpg'))
    data['data_samples'][1].gt_sem_seg.data[0, 3, 3] = 2
    with pytest.raises(InputError, match='the mask of dogs.jpg has the label 2: referring masks have 1 in the object'):
        ReferringDataPreProcessor(size=(8, 8))(data, training=True)


def test_a_mask_of_another_size_is_refused_in_training():
    """As with the pipeline of a test, where the mask keeps its size."""
    data = batch([(8, 8)], ['cat'])
    data['data_samples'][0].gt_sem_seg = PixelData(data=data['data_samples'][0].gt_sem_seg.data[:, :6])
    with pytest.raises(
        InputError, match=r'is \(6, 8\), its image \(8, 8\) .*: in .*, put LoadReferringMask before Res'
    ):
        ReferringDataPreProcessor(size=(8, 8))(data, training=True)


def test_masks_are_not_padded_in_testing():
    data = batch([(20, 32), (32, 16)])
    masks = [data_sample.gt_sem_seg.data.clone() for data_sample in data['data_samples']]
    result = ReferringDataPreProcessor(size=(32, 32))(data, training=False)
    for data_sample, mask in zip(result['data_samples'], masks):
        assert torch.equal(data_sample.gt_sem_seg.data, mask)


def test_without_a_size_the_largest_image_determines_it():
    result = ReferringDataPreProcessor(size_divisor=16)(batch([(20, 33), (40, 16)]))
    assert result['inputs'].shape == (2, 3, 48, 48)  # 40 and 33 up to multiples of 16
    assert [data.metainfo['padding_size'] for data in result['data_samples']] == [[7, 8, 14, 14], [16, 16, 4, 4]]


def test_too_large_an_image_says_what_to_do():
    with pytest.raises(ValueError, match='an image of 20×33 does not fit the batch of 32×32; let the pipeline resize'):
        ReferringDataPreProcessor(size=(32, 32))(batch([(20, 33)], ['cat']))


def test_images_of_the_other_orientation_get_advice():
    """The pipeline resizes to the size already: 160 × 96 out of a portrait picture, 96 × 160 out of others."""
    with pytest.raises(
        InputError,
        match='an image of 160×96 does not fit the batch of 96×160; Resize takes its scale '
        'for the long and the short side, .*Leave data_preprocessor.size out, or make it a square',
    ):
        ReferringDataPreProcessor(size=(96, 160))(batch([(96, 160), (160, 96)]))
    for size in (None, (160, 160)):
        result = ReferringDataPreProcessor(size=size)(batch([(96, 160), (160, 96)]))
        assert result['inputs'].shape == (2, 3, 160, 160)


def test_the_sentence_survives():
    result = MODELS.build(dict(type='ReferringDataPreProcessor', size=(32, 32)))(batch())
    assert [data.metainfo['text'] for data in result['data_samples']] == ['the red box', 'cat']


def test_it_has_no_weights():
    assert not ReferringDataPreProcessor().state_dict()


def test_inputs_are_not_changed():
    data = batch([(20, 32)], ['cat'])
    before = data['inputs'][0].clone()
    ReferringDataPreProcessor(size=(32, 32))(data)
    assert torch.equal(data['inputs'][0], before)
