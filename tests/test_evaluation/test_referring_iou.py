import pytest
import torch
from dit_sam.evaluation import ReferringIoU
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample
from torchmetrics.classification import BinaryJaccardIndex


def item(intersection: int, prediction_only: int = 0, truth_only: int = 0, **metainfo) -> dict:
    """Masks of 4 x 5 pixels: first the pixels in both, then those in one of the two."""
    prediction, truth = torch.zeros(20, dtype=torch.int64), torch.zeros(20, dtype=torch.int64)
    prediction[:intersection + prediction_only] = 1
    truth[:intersection] = 1
    truth[intersection + prediction_only:intersection + prediction_only + truth_only] = 1
    return dict(
        pred_sem_seg=dict(data=prediction.view(1, 4, 5)), gt_sem_seg=dict(data=truth.view(1, 4, 5)), **metainfo)


def score(items: list, **kwargs) -> dict:
    metric = ReferringIoU(**kwargs)
    metric.process({}, items)
    return metric.evaluate(len(items))


def test_scores_by_hand():
    scores = score([item(2, 1, 3), item(3, 1), item(9, 0, 1), item(0, 4, 2)])  # IoU 2/6, 3/4, 9/10, 0/6
    assert scores == {
        'oIoU': pytest.approx((2 + 3 + 9 + 0) / (6 + 4 + 10 + 6) * 100),
        'mIoU': pytest.approx((2 / 6 + 3 / 4 + 9 / 10 + 0) / 4 * 100),
        'P@0.5': 2 / 4 * 100,
        'P@0.6': 2 / 4 * 100,
        'P@0.7': 2 / 4 * 100,
        'P@0.8': 1 / 4 * 100,
        'P@0.9': 0 / 4 * 100,  # 9/10 is not above 0.9
    }
    assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize('tenths', [5, 6, 7, 8, 9])
def test_precision_is_strict(tenths):
    """An IoU of exactly X is not above X."""
    assert score([item(tenths, 10 - tenths)])[f'P@{tenths / 10}'] == 0
    assert score([item(2 * tenths + 1, 19 - 2 * tenths)])[f'P@{tenths / 10}'] == 100  # (2 * tenths + 1) / 20


def test_empty_masks():
    assert score([item(0)])['mIoU'] == 100
    assert score([item(0)])['oIoU'] == 100
    scores = score([item(0), item(0, 5), item(0, 0, 5), item(1, 1)])
    assert scores['mIoU'] == (1 + 0 + 0 + 1 / 2) / 4 * 100
    assert scores['oIoU'] == pytest.approx((0 + 0 + 0 + 1) / (0 + 5 + 5 + 2) * 100)


def test_by_kind():
    items = [item(1, 1, kind='place'), item(1, kind='place'), item(1, 3, kind='attribute'), item(0, 1)]
    scores = score(items, group_by='kind')
    assert scores['mIoU/place'] == (1 / 2 + 1) / 2 * 100
    assert scores['mIoU/attribute'] == 1 / 4 * 100
    assert scores['mIoU'] == (1 / 2 + 1 + 1 / 4 + 0) / 4 * 100
    assert {key for key in scores if '/' in key} == {'mIoU/place', 'mIoU/attribute'}
    assert not any('/' in key for key in score(items))


def test_masks_of_different_shape_are_an_error():
    wrong = item(1, text='the cat', sent_id=3, img_path='a.jpg')
    wrong['gt_sem_seg']['data'] = torch.ones(2, 4, 5)
    with pytest.raises(ValueError, match=r'\(1, 4, 5\).*\(2, 4, 5\).*"the cat" \(sentence 3\) of a\.jpg'):
        score([wrong])


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match='nothing to score'):
        ReferringIoU().evaluate(0)


def test_areas_beyond_float32_are_exact():
    """2^24 + 1 has no float32."""
    metric = ReferringIoU()
    assert metric.compute_metrics([(2**24, 2**24, None), (1, 1, None), (0, 1, None)])['oIoU'] == (2**24 + 1) / (
        2**24 + 2) * 100


@pytest.mark.parametrize('share', [0.0, 0.2, 0.5, 0.9])
def test_against_torchmetrics(share):
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        prediction, truth = (torch.rand(2, 1, 13, 17, generator=generator) < share).long()
        reference = BinaryJaccardIndex(zero_division=1)(prediction, truth)
        scores = score([dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth))])
        assert scores['mIoU'] == pytest.approx(float(reference) * 100, rel=1e-6)
        assert scores['oIoU'] == pytest.approx(scores['mIoU'])


AREAS = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.sampled_from(['a', 'b', None]))


@settings(max_examples=50, deadline=None)
@given(areas=st.lists(AREAS, min_size=1, max_size=12), data=st.data())
def test_order_batches_and_ranks_do_not_matter(areas, data):
    """The results of two ranks, in another order and in other batches, give the very same floats."""
    items = [item(both, one, other, **({} if kind is None else dict(kind=kind))) for both, one, other, kind in areas]
    expected = score(items, group_by='kind')
    shuffled = data.draw(st.permutations(items))
    cut = data.draw(st.integers(0, len(items)))
    merged = ReferringIoU(group_by='kind')
    for part in (shuffled[:cut], shuffled[cut:]):
        rank = ReferringIoU(group_by='kind')
        for sample in part:
            rank.process({}, [sample])
        merged.results.extend(rank.results)
    assert merged.evaluate(len(items)) == expected


def test_in_an_evaluator(caplog):
    sample = SegDataSample(metainfo=dict(text='the cat', kind='attribute'))
    sample.pred_sem_seg = PixelData(data=torch.ones(1, 2, 3, dtype=torch.uint8))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[1, 1, 0], [0, 0, 0]]]))
    evaluator = Evaluator([METRICS.build(dict(type='ReferringIoU', group_by='kind', prefix='val'))])
    evaluator.process([sample], {})
    scores = evaluator.evaluate(1)
    assert scores['val/oIoU'] == scores['val/mIoU/attribute'] == pytest.approx(2 / 6 * 100)
