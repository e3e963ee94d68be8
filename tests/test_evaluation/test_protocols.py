"""The three ways of scoring, against masks worked out by hand, Pillow and OpenCV."""
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scored_items import item, pair, score

from dit_sam.errors import InputError
from dit_sam.evaluation.protocols import stretch


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
def test_lavt480_takes_the_pixels_that_lavt_takes(size):
    """LAVT resizes by torchvision, which calls Pillow."""
    mask = np.random.default_rng(0).random(size) < 0.5
    expected = Image.fromarray(mask.astype(np.uint8)).resize((480, 480), Image.Resampling.NEAREST)
    assert np.array_equal(stretch(torch.from_numpy(mask)[None])[0], np.asarray(expected))


def test_lavt480_knows_the_target_from_the_original_mask():
    """A pixel that the stretch loses is a target all the same, and an empty prediction for it is no success."""
    truth = torch.zeros(480, 960, dtype=torch.int64)
    truth[0, 0] = 1
    sample = pair(torch.zeros_like(truth), truth)
    assert not stretch(truth[None] == 1).any()
    scores = score([sample], protocol='lavt480', generalized=True)
    assert (scores['gIoU'], scores['T-acc']) == (0, 0)


def dit_item(probabilities: torch.Tensor, truth: torch.Tensor, **metainfo) -> dict:
    """With a prediction at the original size that is wrong on purpose."""
    sample = pair(1 - truth, truth, **metainfo)
    return dict(sample, input_probabilities=dict(data=probabilities[None]))


def test_dit_by_hand():
    """A line of 2 pixels, one above 0.35, becomes 4: the bilinear weights of that one are 1, 3/4, 1/4 and 0."""
    truth = torch.tensor([[1, 1, 0, 0]])
    assert score([dit_item(torch.tensor([[0.36, 0.35]]), truth)], protocol='dit')['mIoU'] == pytest.approx(2 / 3 * 100)
    assert score([dit_item(torch.tensor([[0.35, 0.34]]), truth)], protocol='dit')['mIoU'] == 0


@pytest.mark.parametrize('size, original', [((384, 512), (480, 640)), ((512, 341), (500, 333)),
                                            ((342, 512), (428, 640)), ((96, 128), (120, 160)), ((99, 99), (99, 99))])
def test_dit_is_the_resize_of_opencv(size, original):
    """As the released code calls it, on float masks."""
    mask = blobs(*size, seed=0)
    truth = torch.from_numpy(blobs(*original, seed=1)).long()
    expected = torch.from_numpy((cv2.resize(mask, original[::-1]) > 0).astype(np.int64))
    assert score([dit_item(torch.from_numpy(mask), truth)], protocol='dit') == score([pair(expected, truth)])


def test_dit_without_probabilities_says_what_to_set():
    with pytest.raises(InputError, match='set model.test_cfg.keep_input_probabilities=True$'):
        score([item(1)], protocol='dit')
