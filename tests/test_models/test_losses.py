"""The losses for one output channel."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from tiny import assert_close, decode_head, noise
from torch._subclasses.fake_tensor import FakeTensorMode
from torchmetrics.functional.segmentation import dice_score

from dit_sam.errors import InputError
from dit_sam.models import BinaryDiceLoss
from dit_sam.models.losses import BinaryCrossEntropyLoss, sentence_contrast


def test_by_hand():
    """1 − 2 Σ p·t / (Σ p² + ε + Σ t² + ε), with p = 0.5, 0.5, 0.8, 0.2 and t = 1, 0, 1, 0."""
    pred = torch.tensor([0.5, 0.5, 0.8, 0.2]).logit().view(1, 1, 2, 2)
    target = torch.tensor([[[1, 0], [1, 0]]])
    expected = 1 - 2 * (0.5 + 0.8) / (0.25 + 0.25 + 0.64 + 0.04 + 1 + 1 + 1 + 1)
    assert BinaryDiceLoss()(pred, target).item() == pytest.approx(expected)
    assert BinaryDiceLoss(loss_weight=3.0)(pred, target).item() == pytest.approx(3 * expected)
    # EVF-SAM's: 1 − (2 Σ p·t + ε) / (Σ p + Σ t + ε).
    naive = 1 - (2 * (0.5 + 0.8) + 1) / (2 + 2 + 1)
    assert BinaryDiceLoss(squared=False)(pred, target).item() == pytest.approx(naive)


def test_for_binary_probabilities_it_equals_the_dice_score():
    """Where probabilities are 0 or 1, Σ p² = Σ p."""
    truth, predicted = (noise(4, 9, 11, seed=seed) > 0 for seed in (1, 2))
    loss = BinaryDiceLoss(eps=0.0)(200.0 * predicted[:, None] - 100, truth.long())
    scores = dice_score(predicted[:, None].long(), truth[:, None].long(), num_classes=1, input_format='one-hot')
    assert_close(loss, 1 - scores.mean(), 1e-6)


def test_the_dice_loss_is_the_mean_over_the_batch():
    pred, target = noise(3, 1, 4, 4), (noise(3, 4, 4, seed=1) > 0).long()
    loss = BinaryDiceLoss()
    each = torch.stack([loss(pred[i : i + 1], target[i : i + 1]) for i in range(3)])
    assert_close(loss(pred, target), each.mean(), 1e-6)
    weight = torch.tensor([1.0, 0.0, 2.0])
    assert_close(loss(pred, target, weight), (each * weight).mean(), 1e-6)


def test_ignored_pixels_do_not_count():
    pred, target = noise(2, 1, 4, 4), (noise(2, 4, 4, seed=1) > 0).long()
    ignored = target.clone()
    ignored[:, 2:] = 255
    assert_close(BinaryDiceLoss()(pred, ignored), BinaryDiceLoss()(pred[:, :, :2], target[:, :2]), 1e-6)


def test_an_empty_mask_gives_a_finite_loss_and_gradient():
    pred = torch.full((1, 1, 4, 4), -30.0, requires_grad=True)
    loss = BinaryDiceLoss()(pred, torch.zeros(1, 4, 4, dtype=torch.long))
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()


@pytest.mark.parametrize(
    'loss, message',
    [
        (dict(type='DiceLoss'), 'DiceLoss of mmseg does not train the one mask'),
        (dict(type='TverskyLoss'), 'TverskyLoss of mmseg does not train'),
        (dict(type='CrossEntropyLoss'), 'CrossEntropyLoss of mmseg .* with use_sigmoid=True'),
        (dict(type='BinaryDiceLoss', loss_name='dice'), "BinaryDiceLoss has loss_name='dice', and only losses whose"),
    ],
)
def test_losses_that_would_not_train_a_mask_are_refused(loss, message):
    with pytest.raises(InputError, match=message):
        MODELS.build(decode_head(loss_decode=[dict(type='BinaryCrossEntropyLoss'), loss]))


@pytest.mark.parametrize(
    'loss',
    [dict(type='CrossEntropyLoss', use_sigmoid=True), dict(type='LovaszLoss', loss_type='binary', reduction='none')],
)
def test_losses_of_mmseg_for_one_channel_are_accepted(loss):
    """Also where tensors have no content, as for tools that count weights or memory."""
    MODELS.build(decode_head(loss_decode=loss))
    for context in (torch.device('meta'), FakeTensorMode()):
        with context:
            MODELS.build(decode_head(loss_decode=loss))


def test_a_loss_that_is_turned_off_is_accepted():
    MODELS.build(decode_head(loss_decode=[dict(type='BinaryCrossEntropyLoss'), dict(type='DiceLoss', loss_weight=0.0)]))


@pytest.mark.parametrize('ignored', [0, 20, 72])
@pytest.mark.parametrize('weighted', [False, True])
def test_cross_entropy_equals_mmsegs(ignored, weighted):
    """With its gradient; pixels that are ignored count in the mean, as zeros."""
    ours = MODELS.build(dict(type='BinaryCrossEntropyLoss', loss_weight=3.0))
    theirs = MODELS.build(dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=3.0))
    target = (noise(2, 6, 6, seed=1) > 0).long().flatten()
    target[:ignored] = 255
    if ignored == target.numel():
        target[0] = 1  # of nothing mmseg's takes no maximum
    target, weight = target.view(2, 6, 6), noise(2, 6, 6, seed=2).abs() if weighted else None
    gradients = []
    for loss in (ours, theirs):
        pred = (5 * noise(2, 1, 6, 6)).requires_grad_()
        value = loss(pred, target, weight=weight, ignore_index=255)
        value.backward()
        gradients.append((value.detach(), pred.grad))
    for actual, expected in zip(*gradients):
        assert_close(actual, expected, 1e-6)
    assert ours.loss_name == 'loss_bce'


def test_the_cross_entropy_of_an_empty_batch_is_zero():
    loss = BinaryCrossEntropyLoss()(noise(1, 1, 4, 4), torch.full((1, 4, 4), 255))
    assert loss.item() == 0


@pytest.mark.parametrize('loss', [BinaryCrossEntropyLoss(), BinaryDiceLoss()], ids=lambda loss: type(loss).__name__)
def test_large_maps_in_half_precision_stay_in_range(loss):
    """512 × 512 pixels are more than float16 counts to."""
    pred = torch.full((1, 1, 512, 512), 2.0, dtype=torch.float16)
    target = torch.ones(1, 512, 512, dtype=torch.long)
    expected = loss(pred.double(), target)
    assert_close(loss(pred, target), expected, 1e-5)


def test_masks_that_are_padded_or_not_meet_the_logits_where_they_belong():
    """Perfect logits have no loss, whether masks are padded with the image or not; SAMHead needs padding."""
    truth = torch.zeros(1, 6, 8, dtype=torch.uint8)
    truth[:, 2:4, 3:7] = 1
    for pad_masks in (True, False):
        preprocessor = MODELS.build(
            dict(type='ReferringDataPreProcessor', size=(16, 16), pad_masks=pad_masks, place='corner')
        )
        sample = SegDataSample(metainfo=dict(text='x', img_shape=(6, 8)))
        sample.gt_sem_seg = PixelData(data=truth)
        data = dict(inputs=[torch.zeros(3, 6, 8, dtype=torch.uint8)], data_samples=[sample])
        samples = preprocessor(data, training=True)['data_samples']
        assert samples[0].gt_sem_seg.shape == ((16, 16) if pad_masks else (6, 8))
        logits = torch.full((1, 1, 16, 16), -30.0)
        logits[..., 2:4, 3:7] = 30
        heads = [
            MODELS.build(dict(type=kind, in_channels=16, num_heads=2, mlp_dim=8)) for kind in ('EVFSAMHead', 'SAMHead')
        ]
        losses = heads[0].loss_by_feat(logits, samples)
        assert losses['mean_iou'] == 100 and losses['loss_bce'] + losses['loss_dice'] < 1e-3
        if not pad_masks:
            with pytest.raises(InputError, match='leave out data_preprocessor.pad_masks=False'):
                heads[1].loss((torch.zeros(1, 16, 4, 4),), samples)


def test_sentences_of_an_image_are_each_others_negatives():
    """Cross-entropy over the sentences at the pixels of objects, which torch computes for each pixel."""
    pred, target = noise(5, 1, 4, 6).requires_grad_(), torch.zeros(5, 4, 6, dtype=torch.long)
    # The first image has three sentences for two objects and the background, the second one object, the third one
    # sentence.
    target[0, :2], target[1, 3], target[2, 3] = 1, 1, 1
    target[3, 1:], target[4, 0] = 1, 1
    loss = sentence_contrast(pred, target, [0, 0, 0, 1, 2])
    first = F.cross_entropy(pred[:3, 0, :2].flatten(1).T, torch.zeros(12, dtype=torch.long), reduction='sum')
    # The second and the third sentence mean the same: their probabilities are added.
    second = -pred[:3, 0, 3].softmax(0)[1:].sum(0).log().sum()
    assert_close(loss, (first + second) / 18, 1e-6)
    loss.backward()
    assert pred.grad.isfinite().all()
    assert not pred.grad[:3, 0, 2].any() and not pred.grad[3:].any()
    target[0, 0], target[1, 0] = 1, 255
    ignoring = sentence_contrast(pred, target, [0, 0, 0, 1, 2])
    first = F.cross_entropy(pred[:3, 0, 1].T, torch.zeros(6, dtype=torch.long), reduction='sum')
    assert_close(ignoring, (first + second) / 12, 1e-6)
    assert sentence_contrast(pred, target, range(5)).item() == 0


def test_every_image_counts_the_same_and_one_without_an_object_counts_as_zero():
    pred, target = noise(4, 1, 4, 6).requires_grad_(), torch.zeros(4, 4, 6, dtype=torch.long)
    nothing = sentence_contrast(pred[:2], target[:2], [0, 0])
    nothing.backward()
    assert nothing.item() == 0 and pred.grad.isfinite().all()
    # One object of 6 pixels, another of 18.
    target[0, 0], target[2, 1:] = 1, 1
    first, second = (sentence_contrast(pred[part], target[part], [0, 0]) for part in (slice(2), slice(2, 4)))
    assert_close(sentence_contrast(pred, target, [0, 0, 1, 1]), (first + second) / 2, 1e-6)
