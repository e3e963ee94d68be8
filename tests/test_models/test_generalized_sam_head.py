"""The no-target decision."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from tiny import assert_close, batch, decode_head, noise, randomize, sample, segmentor

from dit_sam.models import GeneralizedSAMHead
from dit_sam.structures import TextFeatures

GRID = (4, 4)


def build(**kwargs) -> GeneralizedSAMHead:
    return randomize(MODELS.build(decode_head(type='GeneralizedSAMHead', **kwargs)))


def sentences(count: int) -> TextFeatures:
    return TextFeatures(noise(count, 3, 16, seed=5), torch.ones(count, 3, dtype=torch.bool))


def items(*empty: bool) -> list:
    made = [sample((16, 16), seed=i) for i in range(len(empty))]
    for data, nothing in zip(made, empty):
        if nothing:
            data.gt_sem_seg = PixelData(data=torch.zeros(1, 16, 16, dtype=torch.long))
    return made


def decide(head: GeneralizedSAMHead, logit: float) -> None:
    """Make the decision the same for every item."""
    last = head.no_target_head.layers[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, logit)


def test_without_the_decision_it_equals_sam_head():
    head = build()
    plain = MODELS.build(decode_head())
    plain.load_state_dict(
        {name: value for name, value in head.state_dict().items() if not name.startswith('no_target_head.')},
        strict=True,
    )
    assert torch.equal(head((noise(2, 16, *GRID),), sentences(2)), plain((noise(2, 16, *GRID),), sentences(2)))


def test_the_loss_is_the_weighted_cross_entropy_of_the_decision():
    """A logit of 0.3 for each of three items, one of which has no target."""
    head = build(no_target_weight=0.2)
    decide(head, 0.3)
    losses = head.loss((noise(3, 16, *GRID),), items(False, True, False), text=sentences(3))
    p = torch.tensor(0.3).sigmoid()
    assert_close(losses['loss_no_target'], 0.2 * -(p.log() + 2 * (1 - p).log()) / 3, 1e-6)
    # The decision "nothing" is right for one of three.
    assert losses['no_target_accuracy'].item() == pytest.approx(100 / 3)
    assert set(losses) == {'loss_bce', 'mean_iou', 'loss_no_target', 'no_target_accuracy'}
    # The target has no pixel, but the annotation says that there is one: now all three items have a target.
    samples = items(False, True, False)
    samples[1].set_metainfo(dict(no_target=False))
    losses = head.loss((noise(3, 16, *GRID),), samples, text=sentences(3))
    assert_close(losses['loss_no_target'], 0.2 * -(1 - p).log(), 1e-6)
    # 255 are pixels that do not count, so the second item means nothing again. By a threshold of 0.6, the decision for
    # all three is "something", which is right for two.
    head.no_target_threshold = 0.6
    samples = items(False, True, False)
    samples[1].gt_sem_seg.data[:, :8] = 255
    losses = head.loss((noise(3, 16, *GRID),), samples, text=sentences(3))
    assert_close(losses['loss_no_target'], 0.2 * -(p.log() + 2 * (1 - p).log()) / 3, 1e-6)
    assert losses['no_target_accuracy'].item() == pytest.approx(200 / 3)


@pytest.mark.parametrize('logit, threshold, nothing', [(5.0, 0.5, True), (-5.0, 0.5, False), (0.2, 0.6, False)])
def test_a_mask_is_empty_if_there_is_no_target(logit, threshold, nothing):
    head = build(no_target_threshold=threshold)
    decide(head, logit)
    logits = head.predict((noise(2, 16, *GRID),), [dict(pad_shape=(16, 16))] * 2, text=sentences(2))
    assert logits.shape == (2, 1, 16, 16)
    if nothing:
        assert not logits.sigmoid().any()
    else:
        upsampled = F.interpolate(
            head((noise(2, 16, *GRID),), sentences(2)), (16, 16), mode='bilinear', align_corners=True
        )
        assert_close(logits, upsampled, 1e-6)


def test_it_learns_to_distinguish_no_target():
    """Two items that differ in their sentence only: after a few steps one mask is empty, the other is not."""
    model = segmentor(decode_head=decode_head(type='GeneralizedSAMHead'))
    texts = ('the red box', 'a blue cat')

    def data() -> dict:
        made = batch(((32, 32), (32, 32)), texts)
        made['inputs'][1] = made['inputs'][0]
        made['data_samples'][1].gt_sem_seg = PixelData(data=torch.zeros(1, 32, 32, dtype=torch.long))
        return made

    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(60):
        losses = model(**model.data_preprocessor(data(), training=True), mode='loss')
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if 'loss' in name).backward()
        assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
        optimizer.step()
    something, nothing = model.eval().test_step(data())
    assert something.pred_sem_seg.data.any() and not nothing.pred_sem_seg.data.any()
    assert not nothing.seg_logits.data.any()
