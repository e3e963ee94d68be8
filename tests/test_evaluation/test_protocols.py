"""The protocols, compared with masks made by hand, Pillow, OpenCV, and the scores of other projects' code."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from scored_items import item, pair, score

from dit_sam.errors import InputError
from dit_sam.evaluation.protocols import stretch

GOLDEN = Path(__file__).parents[3] / 'shared' / 'golden_scores'


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """A random mask of a few lumps, float32 in {0, 1}."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((height, width)), (0, 0), height / 20)
    return (noise > np.median(noise)).astype(np.float32)


def test_lavt480_by_hand():
    """Of 2 x 1 pixels one is right: 1/2. Of 480 x 960 pixels every second column remains: 120 columns of 240."""
    square = pair(torch.tensor([[1], [1]]), torch.tensor([[1], [0]]))
    assert score([square], protocol='lavt480')['mIoU'] == 50
    wide = pair(torch.zeros(480, 960, dtype=torch.int64), torch.zeros(480, 960, dtype=torch.int64))
    wide['pred_sem_seg']['data'][..., :240] = 1
    wide['gt_sem_seg']['data'][..., :480] = 1
    scores = score([square, wide], protocol='lavt480')
    assert scores['oIoU'] == pytest.approx((240 * 480 + 120 * 480) / (480 * 480 + 240 * 480) * 100)


@pytest.mark.parametrize('size', [(480, 640), (427, 640), (640, 425), (333, 500), (160, 120), (481, 479), (1, 7)])
def test_lavt480_uses_the_same_pixels_as_lavt(size):
    """LAVT resizes by torchvision, which calls Pillow."""
    mask = np.random.default_rng(0).random(size) < 0.5
    expected = Image.fromarray(mask.astype(np.uint8)).resize((480, 480), Image.Resampling.NEAREST)
    assert np.array_equal(stretch(torch.from_numpy(mask)[None])[0], np.asarray(expected))


def test_lavt480_decides_on_a_target_by_the_original_mask():
    """A pixel that is lost by stretching is still a target, and an empty prediction for it is not correct."""
    truth = torch.zeros(480, 960, dtype=torch.int64)
    truth[0, 0] = 1
    sample = pair(torch.zeros_like(truth), truth)
    assert not stretch(truth[None] == 1).any()
    scores = score([sample], protocol='lavt480', generalized=True)
    assert (scores['gIoU'], scores['T-acc']) == (0, 0)


def test_rela480_compares_with_the_ground_truth_drawn_at_480():
    """Of a picture of 3 x 2 pixels one is predicted: 160 x 240 of 480 x 480, all inside the 240 x 240 of the truth."""
    truth = torch.tensor([[1, 0], [0, 0], [0, 0]])
    drawn = np.zeros((480, 480), np.uint8)
    drawn[:240, :240] = 1
    sample = pair(truth, truth, scaled_truth=coco_mask.encode(np.asfortranarray(drawn)))
    scores = score([sample], protocol='rela480', generalized=True)
    assert (scores['gIoU'], scores['cIoU']) == (pytest.approx(160 / 240 * 100),) * 2
    assert score([sample], protocol='lavt480', generalized=True)['gIoU'] == 100
    with pytest.raises(
        InputError,
        match='set keep_outlines=True in the data set, RefCOCODataset or '
        'GRefCOCODataset, and scaled_side=480 in its LoadReferringMask',
    ):
        score([item(1)], protocol='rela480')


def dit_item(probabilities: torch.Tensor, truth: torch.Tensor, **metainfo) -> dict:
    """With a prediction at the original size that is wrong on purpose."""
    sample = pair(1 - truth, truth, **metainfo)
    return dict(sample, input_probabilities=dict(data=probabilities[None]))


def test_dit_by_hand():
    """A line of 2 pixels, one above 0.35, becomes 4: the bilinear weights of that one are 1, 3/4, 1/4 and 0."""
    truth = torch.tensor([[1, 1, 0, 0]])
    assert score([dit_item(torch.tensor([[0.36, 0.35]]), truth)], protocol='dit')['mIoU'] == pytest.approx(2 / 3 * 100)
    assert score([dit_item(torch.tensor([[0.35, 0.34]]), truth)], protocol='dit')['mIoU'] == 0


@pytest.mark.parametrize(
    'size, original',
    [
        ((384, 512), (480, 640)),
        ((512, 341), (500, 333)),
        ((342, 512), (428, 640)),
        ((96, 128), (120, 160)),
        ((99, 99), (99, 99)),
    ],
)
def test_dit_resizes_as_opencv_does(size, original):
    """As the released code calls it, on float masks."""
    mask = blobs(*size, seed=0)
    truth = torch.from_numpy(blobs(*original, seed=1)).long()
    expected = torch.from_numpy((cv2.resize(mask, original[::-1]) > 0).astype(np.int64))
    assert score([dit_item(torch.from_numpy(mask), truth)], protocol='dit') == score([pair(expected, truth)])


def test_dit_without_probabilities_says_what_to_set():
    with pytest.raises(InputError, match='set model.test_cfg.keep_input_probabilities=True$'):
        score([item(1)], protocol='dit')


@pytest.fixture(scope='module')
def golden() -> list:
    """336 pairs of masks: the kind, and an item of the metric."""
    if not GOLDEN.is_dir():
        pytest.skip('the masks that others scored are not here')
    with open(GOLDEN / 'masks.jsonl') as file:
        lines = [json.loads(line) for line in file]
    return [
        (line['kind'], pair(*(torch.from_numpy(coco_mask.decode(line[key])) for key in ('prediction', 'truth'))))
        for line in lines
    ]


@pytest.mark.parametrize(
    'name, kwargs, tolerance',
    [
        ('LAVT evaluate, 480x480 nearest, all 336', dict(protocol='lavt480', empty_iou=0), 1e-9),
        ('LAVT evaluate, 480x480 nearest, 290 with a truth', dict(protocol='lavt480'), 1e-9),
        ("CRIS inference, original size, without 'emptytruth_*' and 'exact'", {}, 1e-6),
        ('mmdet 3.3.0 RefSegMetric, 290 with a truth', {}, 1e-6),
        ('torchmetrics binary_jaccard_index, mean over 290 with a truth', {}, 1e-6),
        ('EVF-SAM evaluation, 290 with a truth', {}, 1e-6),
        ('ReLA ReferEvaluator, all 336, decision = empty mask', dict(generalized=True), 1e-9),
    ],
)
def test_against_the_scores_of_others(golden, name, kwargs, tolerance):
    """Under their own names. ReLA reports N-acc and T-acc as fractions."""
    chosen = [
        item
        for kind, item in golden
        if 'all' in name or not kind.startswith('emptytruth') and not ('CRIS' in name and kind == 'exact')
    ]
    scores = score(chosen, **kwargs)
    overall, mean = ('cIoU', 'gIoU') if 'gIoU' in scores else ('oIoU', 'mIoU')
    ours = {
        **scores,
        'cIoU': scores[overall],
        'accumulated': scores[overall],
        'gIoU': scores[mean],
        **{f'{letter}_acc': scores.get(f'{letter}-acc', 0) / 100 for letter in 'NT'},
        **{f'Pr@{place}': scores[f'P@{place}'] for place in (0.7, 0.8, 0.9)},
    }
    expected = {
        key: value for key, value in json.loads((GOLDEN / 'scores.json').read_text())[name].items() if key != 'note'
    }
    assert {key: ours[key] for key in expected} == pytest.approx(expected, rel=tolerance)
