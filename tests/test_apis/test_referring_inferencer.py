"""Pictures and sentences in every form for a tiny model with random weights, and errors for wrong ones."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_inferencer import assert_same, masks_of, picture, save_random_weights, tiny_config

from dit_sam.apis import InputError, ReferringInferencer, as_json
from dit_sam.apis.model_source import check_dtype

ORIENTATION, QUARTER_TURN = 0x0112, 6  # EXIF: shown turned clockwise by 90 degrees


def test_a_prediction_has_the_size_of_the_picture_and_its_sentence(inferencer):
    result = inferencer(picture(60, 90), 'the red star')
    assert result['visualization'] == []
    (prediction,) = result['predictions']
    mask = prediction['mask']
    assert mask.shape == (60, 90) and mask.dtype == bool and mask.any()
    assert prediction['sentence'] == 'the red star' and prediction['img_path'] is None
    assert prediction['area'] == mask.sum()
    left, top, right, bottom = prediction['box']
    assert mask[top:bottom, left:right].sum() == mask.sum()
    assert all(edge.any() for edge in (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]))


def test_the_score_is_the_mean_probability_inside_the_mask(inferencer):
    image = picture()
    (prediction,) = inferencer(image, 'the red star')['predictions']
    (sample,) = inferencer(image, 'the red star', return_datasamples=True)['predictions']
    assert isinstance(sample, SegDataSample)
    inside = sample.seg_logits.data[0].numpy()[prediction['mask']]
    # The threshold of the shapes model is 0.5.
    assert prediction['score'] == pytest.approx(inside.mean(), abs=1e-6) and 0.5 < prediction['score'] <= 1
    np.testing.assert_array_equal(sample.pred_sem_seg.data[0].numpy() == 1, prediction['mask'])


def test_an_empty_mask_has_no_box_and_score_0(inferencer, monkeypatch):
    monkeypatch.setattr(inferencer.model.decode_head, 'threshold', 1.0)
    (prediction,) = inferencer(picture(), 'the red star')['predictions']
    assert (prediction['box'], prediction['score'], prediction['area']) == (None, 0, 0)


def test_different_sentences_get_different_masks(inferencer):
    first, second = masks_of(inferencer(picture(), ['the red star', 'circle']))
    assert (first != second).any()


def test_batches_give_the_same_masks_as_single_pairs(inferencer):
    images = [picture(60, 90, 0), picture(90, 50, 1), picture(33, 47, 2)]
    sentences = [['the red star', 'circle'], 'the big blue object on the left', ['square', 'heart', 'a thing']]
    alone = [inferencer(image, sentence) for image, sentence in zip(images, sentences)]
    expected = [prediction for result in alone for prediction in result['predictions']]
    for batch_size in (2, 4, 100):
        result = inferencer(images, sentences, batch_size=batch_size)
        assert_same(result, dict(predictions=expected))
        assert [prediction['sentence'] for prediction in result['predictions']] == [
            'the red star',
            'circle',
            'the big blue object on the left',
            'square',
            'heart',
            'a thing',
        ]


def test_batches_give_the_same_masks_if_the_model_pads_to_the_largest(inferencer, monkeypatch):
    monkeypatch.setattr(inferencer.model.data_preprocessor, 'size', None)
    images = [picture(60, 90), picture(90, 50), picture(90, 50, 1)]
    alone = [inferencer(image, 'circle')['predictions'][0] for image in images]
    assert_same(inferencer(images, 'circle', batch_size=3), dict(predictions=alone))


def test_path_array_and_pil_image_agree(inferencer, tmp_path):
    array = picture()
    cv2.imwrite(str(tmp_path / 'a.png'), array)
    with_alpha = np.dstack([array, np.full((60, 90), 7, np.uint8)])
    by_path = inferencer(tmp_path / 'a.png', 'circle')
    assert by_path['predictions'][0]['img_path'] == str(tmp_path / 'a.png')
    assert_same(by_path, inferencer(str(tmp_path / 'a.png'), 'circle'))
    for same in (array, with_alpha, Image.fromarray(array[..., ::-1]), Image.open(tmp_path / 'a.png')):
        assert_same(by_path, inferencer(same, 'circle'))


def test_gray_pictures(inferencer):
    gray = picture()[..., 0]
    expected = inferencer(np.dstack([gray] * 3), 'circle')
    image = Image.fromarray(gray)
    for same in (gray, gray[..., None], image, image.convert('LA'), image.convert('LA').convert('La')):
        assert_same(expected, inferencer(same, 'circle'))


def test_pictures_are_turned_as_their_exif_tag_says(inferencer, tmp_path):
    upright = picture(60, 90)
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    # Stored turned to the left, shown turned to the right.
    stored = np.rot90(upright)
    Image.fromarray(np.ascontiguousarray(stored[..., ::-1])).save(tmp_path / 'a.png', exif=exif)
    result = inferencer(tmp_path / 'a.png', 'circle', return_vis=True)
    assert masks_of(result)[0].shape == (60, 90)
    assert result['visualization'][0].shape[1] >= 480
    assert_same(result, inferencer(upright, 'circle'))
    assert_same(result, inferencer(Image.open(tmp_path / 'a.png'), 'circle'))


def test_a_folder_means_its_images_sorted_by_name(inferencer, tmp_path):
    for name, seed in (('b.png', 1), ('a.PNG', 2), ('.hidden.png', 3)):
        cv2.imwrite(str(tmp_path / name), picture(seed=seed))
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / 'sub').mkdir()
    paths = [str(tmp_path / 'a.PNG'), str(tmp_path / 'b.png')]
    result = inferencer(tmp_path, 'circle')
    assert [prediction['img_path'] for prediction in result['predictions']] == paths
    assert_same(result, inferencer(paths, ['circle', 'circle']))
    assert len(inferencer([str(tmp_path), picture()], [['star'], 'circle', ['a', 'b']])['predictions']) == 4


def test_files_are_named_by_image_and_sentence_and_replace_no_file(inferencer, tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), picture(60, 90))
    out = tmp_path / 'out'
    result = inferencer(str(tmp_path / 'photo.png'), ['the Red star', 'circle?'], out_dir=str(out))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob('*.png')) == [
        'pred/photo_circle_1.png',
        'pred/photo_the-red-star_1.png',
        'vis/photo_the-red-star-circle_1.png',
    ]
    for prediction in result['predictions']:
        written = cv2.imread(prediction['mask_file'], cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, prediction['mask'] * np.uint8(255))
        assert prediction['overlay_file'] == str(out / 'vis' / 'photo_the-red-star-circle_1.png')
    again = inferencer(str(tmp_path / 'photo.png'), 'circle?', out_dir=str(out))
    assert again['predictions'][0]['mask_file'] == str(out / 'pred' / 'photo_circle_2.png')
    assert inferencer(picture(), 'a', out_dir=str(out))['predictions'][0]['mask_file'].endswith('image_1_a_1.png')


def test_images_before_a_damaged_one_are_written(inferencer, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    (tmp_path / 'b.png').write_bytes(b'no image')
    with pytest.raises(InputError, match='b.png cannot be decoded'):
        inferencer(tmp_path, 'circle', out_dir=str(tmp_path / 'out'))
    assert (tmp_path / 'out' / 'pred' / 'a_circle_1.png').is_file()


def test_show_opens_a_window_for_each_image(inferencer, monkeypatch):
    shown = []
    monkeypatch.setattr(
        inferencer.visualizer,
        'show',
        lambda drawn, win_name, wait_time: shown.append((drawn.shape[1], win_name, wait_time)),
    )
    inferencer([picture(60, 500), picture(60, 600)], ['circle', ['star', 'heart']], show=True, wait_time=2)
    assert shown == [(500, 'image_1', 2), (600, 'image_2', 2)]


def test_json_holds_the_mask_as_rle(inferencer):
    (prediction,) = inferencer(picture(), 'circle')['predictions']
    plain = as_json(prediction)
    assert 'mask' not in plain and plain['box'] == prediction['box']
    np.testing.assert_array_equal(coco_mask.decode(plain['segmentation']), prediction['mask'])


@pytest.mark.parametrize(
    'sentences, message',
    [
        ('', 'sentence 1 of 1 for image_1 is empty: say what to segment'),
        (['circle', ' \t'], 'sentence 2 of 2 for image_1 is empty: say what to segment'),
        ([], 'there is no sentence for image_1: say what to segment'),
        (['circle', 3], 'sentence 2 of 2 for image_1 has the type int, not a string'),
        (None, 'sentences have the type NoneType: give a string or a list'),
    ],
)
def test_wrong_sentences(inferencer, sentences, message):
    with pytest.raises(InputError) as caught:
        inferencer(picture(), sentences)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    'sentences, message',
    [
        (
            ['circle'],
            '2 images, but sentences for 1: give one sentence for all, or a sentence or a list of sentences for '
            'each image',
        ),
        (['circle', 'star', 'heart'], '2 images, but sentences for 3'),
        (['circle', []], 'there is no sentence for image_2'),
        (['circle', None], 'the sentences for image_2 have the type NoneType'),
        ([['circle', ''], 'star'], 'sentence 2 of 2 for image_1 is empty'),
    ],
)
def test_wrong_sentences_for_two_images(inferencer, sentences, message):
    with pytest.raises(InputError) as caught:
        inferencer([picture(), picture()], sentences)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    'image, message',
    [
        (np.zeros((4, 4, 3), np.float32), r'image_1 is an array \(4, 4, 3\) of float32: give \(H, W, 3\), BGR, uint8'),
        (np.zeros((4, 4, 2), np.uint8), r'image_1 is an array \(4, 4, 2\) of uint8'),
        (np.zeros((0, 4, 3), np.uint8), r'image_1 is an array \(0, 4, 3\) of uint8'),
        (torch.zeros(3, 4, 4), 'image_1 has the type Tensor: give a path, a folder, an array'),
        (Image.new('I;16', (4, 4)), 'image_1 is a PIL image of mode I;16'),
        ([], 'no image given'),
        (np.zeros((1, 900, 3), np.uint8), 'image image_1 of 900×1 pixels is too narrow'),
    ],
)
def test_wrong_images(inferencer, image, message):
    with pytest.raises(InputError, match=message):
        inferencer(image, 'circle')


def test_opening_a_model_changes_no_random_numbers_and_warns_of_nothing(inferencer, tmp_path):
    save_random_weights(tmp_path / 'weights.safetensors')
    drawn = []
    for opens in (False, True):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter('error', UserWarning)
            if opens:
                ReferringInferencer(tiny_config(), str(tmp_path / 'weights.safetensors'), device='cpu')
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)


def test_sentences_of_a_folder_are_for_each_of_its_images(inferencer, tmp_path):
    """Also if there are as many; and a folder that is called like an image is none."""
    (tmp_path / 'c.jpg').mkdir()
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.png'), picture())
    found = inferencer(tmp_path, ['circle', 'square'])['predictions']
    assert [one['sentence'] for one in found] == ['circle', 'square'] * 2


def test_damaged_exif_is_ignored(inferencer, tmp_path):
    """As for a path, which OpenCV reads."""
    path = tmp_path / 'a.webp'
    Image.fromarray(picture()).save(path, exif=b'garbage', lossless=True)
    masks = [inferencer(image, 'circle')['predictions'][0]['mask'] for image in (path, Image.open(path))]
    np.testing.assert_array_equal(*masks)
    # A tag of a wrong type beside that of the orientation, which counts.
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    damaged = exif.tobytes()[:-4] + b'\xff' * 4
    Image.fromarray(picture(20, 40)).save(tmp_path / 'b.jpg', exif=damaged)
    for image in (tmp_path / 'b.jpg', Image.open(tmp_path / 'b.jpg')):
        assert inferencer(image, 'circle')['predictions'][0]['mask'].shape == (40, 20)


@pytest.mark.parametrize('scheme', ['ftp', 'file'])
def test_addresses_without_a_backend_are_refused(inferencer, scheme):
    with pytest.raises(FileNotFoundError, match=f'not found: mmengine has no backend for {scheme}://'):
        inferencer(f'{scheme}:///a.jpg', 'circle')


def test_names_of_shared_models_get_advice():
    with pytest.raises(InputError, match=r"opened by ReferringInferencer.from_pretrained\('evf-sam'\)"):
        ReferringInferencer('evf-sam')


def test_threads_may_share_a_model(inferencer):
    """Sentences of different lengths: a tokenizer keeps the padding of its last call."""
    encoder = inferencer.model.text_encoder
    sentences = ['circle', 'the biggest red circle on the right']
    expected = encoder(sentences).tokens

    def encode(number: int) -> bool:
        encoder._cache.clear()
        encoder._warned = False
        return torch.allclose(encoder(sentences).tokens, expected, atol=1e-5)

    with torch.no_grad(), ThreadPoolExecutor(8) as pool:
        assert all(pool.map(encode, range(200)))


def test_a_closed_image_is_an_error(inferencer, tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    image = Image.open(tmp_path / 'a.png')
    image.close()
    with pytest.raises(InputError, match='image_1 cannot be decoded'):
        inferencer(image, 'circle')


def test_missing_and_damaged_files(inferencer, tmp_path):
    with pytest.raises(FileNotFoundError, match='image .*none.jpg not found: check the path'):
        inferencer([picture(), str(tmp_path / 'none.jpg')], 'circle')
    with pytest.raises(InputError, match='folder .* holds no image: no file in it ends in .avif, '):
        inferencer(tmp_path, 'circle')
    for name, content in (('empty.jpg', b''), ('text.png', b'<html>')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f'image .*{name} cannot be decoded: it is damaged') as caught:
            inferencer(tmp_path / name, 'circle')
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('batch_size', [0, None, '4', 2.5])
def test_batch_size_must_be_a_positive_number(inferencer, batch_size):
    with pytest.raises(InputError, match=f'batch_size must be a whole number of 1 or more, got {batch_size!r}'):
        inferencer(picture(), 'circle', batch_size=batch_size)


def test_16_bits_change_masks_little_and_unknown_types_are_refused(tmp_path):
    """The tiny model has no matrix of 65,536 entries, so that only the arithmetic changes."""
    save_random_weights(tmp_path / 'w.safetensors')
    models = [
        ReferringInferencer(tiny_config(), tmp_path / 'w.safetensors', device='cpu', dtype=dtype)
        for dtype in ('float32', 'bfloat16')
    ]
    exact, rounded = (model(picture(), 'the red star', return_datasamples=True)['predictions'][0] for model in models)
    assert rounded.seg_logits.data.dtype == torch.float32
    difference = (exact.seg_logits.data - rounded.seg_logits.data).abs().mean()
    assert 0 < difference < 0.05
    with pytest.raises(InputError, match="dtype='int8' is not one of float32, bfloat16, float16"):
        ReferringInferencer(tiny_config(), dtype='int8')
    with pytest.raises(InputError, match='float16 is for GPUs: take bfloat16'):
        ReferringInferencer(tiny_config(), device='cpu', dtype='float16')


def test_bfloat16_needs_a_gpu_that_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    with pytest.raises(InputError, match='this GPU has no bfloat16 arithmetic, .* take float16'):
        check_dtype('bfloat16', 'cuda')
    assert check_dtype('float16', 'cuda') is torch.float16
