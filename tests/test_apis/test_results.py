"""Masks as run lengths and polygons, and predictions as files of COCO and numpy."""

import io
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tiny_inferencer import picture, save_random_weights, tiny_config

from dit_sam.apis import InputError, ReferringInferencer, as_coco, as_json, as_npz, cut_out
from dit_sam.apis.results import prediction_of, trace_polygons


def decode(segmentation, height: int, width: int) -> np.ndarray:
    if not segmentation:
        return np.zeros((height, width), bool)
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    return coco_mask.decode(segmentation).astype(bool)


def blob(seed: int) -> np.ndarray:
    """A mask of several smooth pieces."""
    rng = np.random.default_rng(seed)
    size = tuple(int(side) for side in rng.integers(2, 60, 2))
    return cv2.resize(rng.random((5, 6), dtype=np.float32), size, interpolation=cv2.INTER_CUBIC) > 0.5


def without_holes(mask: np.ndarray) -> np.ndarray:
    """Fill the background that is not connected to the border by edges."""
    outside = cv2.copyMakeBorder((~mask).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    labels = cv2.connectedComponents(outside, connectivity=4)[1]
    return (labels != labels[0, 0])[1:-1, 1:-1]


def test_polygons_are_exact_except_for_holes():
    masks = [blob(seed) for seed in range(50)]
    assert sum((without_holes(mask) != mask).any() for mask in masks) > 5
    for mask in masks:
        np.testing.assert_array_equal(decode(trace_polygons(mask), *mask.shape), without_holes(mask))


def test_polygons_repeat_no_corner():
    mask = cv2.circle(np.zeros((40, 40), np.uint8), (20, 20), 13, 1, -1) == 1
    (polygon,) = trace_polygons(mask)
    corners = list(zip(polygon[::2], polygon[1::2]))
    assert all(one != other for one, other in zip(corners, corners[1:] + corners[:1]))


def test_a_cutout_is_the_object_alone():
    picture = np.random.default_rng(0).integers(1, 256, (6, 8, 3), dtype=np.uint8)
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:6] = mask[4, 5] = True
    cut = cut_out(picture, mask)
    assert cut.shape == (4, 4, 4) and cut.dtype == np.uint8
    np.testing.assert_array_equal(cut[:3, :, :3], picture[1:4, 2:6])
    assert cut[..., 3].tolist() == [[255] * 4] * 3 + [[0, 0, 0, 255]] and not cut[3, 0].any()
    with pytest.raises(InputError, match='an empty mask'):
        cut_out(picture, ~mask & mask)


def test_a_pixel_is_a_square_and_an_empty_mask_has_no_polygon():
    mask = np.zeros((4, 5), bool)
    assert trace_polygons(mask) == []
    mask[2, 3] = True
    (polygon,) = trace_polygons(mask)
    assert sorted(zip(polygon[::2], polygon[1::2])) == [(3, 2), (3, 3), (4, 2), (4, 3)]


def test_the_score_is_the_predicted_iou_where_the_model_predicts_it(tmp_path):
    """As in the data sample and the dump; an empty mask has 0."""
    cfg = tiny_config()
    cfg.model.decode_head.predict_iou = True
    save_random_weights(tmp_path / 'weights.safetensors', cfg=cfg)
    inferencer = ReferringInferencer(cfg, tmp_path / 'weights.safetensors', device='cpu')
    bias = inferencer.model.decode_head.mask_decoder.iou_prediction_head.layers[-1].bias.data
    for shift in (0.0, 9.0):
        bias += shift
        (sample,) = inferencer(picture(), 'star', return_datasamples=True)['predictions']
        (found,) = inferencer(picture(), 'star')['predictions']
        assert found['area'] and found['score'] == sample.predicted_iou and 0 <= found['score'] <= 1
    assert found['score'] == 1
    sample.pred_sem_seg.data.zero_()
    assert prediction_of(sample)['score'] == 0


@pytest.mark.parametrize('form', ['rle', 'polygons'])
def test_the_inferencer_returns_run_lengths_and_polygons(inferencer, form):
    image = picture()
    expected = inferencer(image, ['star', 'circle'])['predictions']
    found = inferencer(image, ['star', 'circle'], return_masks=form, return_vis=True)
    assert len(found['visualization']) == 1
    for one, other in zip(expected, found['predictions'], strict=True):
        mask = without_holes(one['mask']) if form == 'polygons' else one['mask']
        np.testing.assert_array_equal(decode(other['segmentation'], *mask.shape), mask)
        assert {key: one[key] for key in ('sentence', 'score', 'box', 'area')} == {
            key: other[key] for key in ('sentence', 'score', 'box', 'area')
        }
        assert 'mask' not in other and json.loads(json.dumps(as_json(other))) == other


def test_other_forms_are_refused(inferencer):
    with pytest.raises(InputError, match="return_masks='png' is not one of array, rle, polygons"):
        inferencer(picture(), 'star', return_masks='png')


@pytest.fixture
def predictions(inferencer, tmp_path) -> list:
    """Two sentences about a picture, one about another of another size; the last finds nothing."""
    for name, size in (('a.png', (60, 90)), ('b.png', (50, 40))):
        cv2.imwrite(str(tmp_path / name), picture(*size))
    found = inferencer(tmp_path, [['star', 'круг'], 'circle'])['predictions']
    found[-1].update(mask=np.zeros((50, 40), bool), box=None, score=0.0, area=0)
    return found


def test_coco_opens_predictions(predictions, tmp_path):
    (tmp_path / 'coco.json').write_text(json.dumps(as_coco(predictions)))
    coco = COCO(tmp_path / 'coco.json')
    assert [image['height'] for image in coco.imgs.values()] == [60, 50]
    for prediction, annotation in zip(predictions, coco.anns.values(), strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), prediction['mask'])
        assert coco.imgs[annotation['image_id']]['file_name'] == prediction['img_path']
        assert (annotation['sentence'], annotation['score']) == (prediction['sentence'], prediction['score'])
        assert annotation['area'] == prediction['area']
        assert annotation['bbox'] == coco_mask.toBbox(annotation['segmentation']).tolist()


def test_coco_needs_paths(inferencer):
    with pytest.raises(InputError, match="call with return_masks='rle'"):
        as_coco([dict(img_path='a.png', segmentation=[[0, 0, 1, 0, 1, 1]], box=[0, 0, 1, 1], area=1)])
    with pytest.raises(InputError, match='COCO names images by file: segment files, not arrays'):
        as_coco(inferencer(picture(), 'star', return_masks='rle')['predictions'])


def test_numpy_needs_boolean_masks(inferencer):
    found = inferencer(picture(), 'star', return_masks='rle')['predictions']
    with pytest.raises(InputError, match="call the inferencer with return_masks='array'"):
        as_npz(found)


def test_numpy_opens_predictions(predictions):
    with np.load(io.BytesIO(as_npz(predictions)), allow_pickle=False) as content:
        assert content['sentence'].tolist() == ['star', 'круг', 'circle']
        assert content['image'].tolist() == [prediction['img_path'] for prediction in predictions]
        assert content['box'].tolist() == [prediction['box'] or [0] * 4 for prediction in predictions]
        np.testing.assert_array_equal(content['score'], [prediction['score'] for prediction in predictions])
        for number, prediction in enumerate(predictions, 1):
            np.testing.assert_array_equal(content[f'mask_{number}'], prediction['mask'])
