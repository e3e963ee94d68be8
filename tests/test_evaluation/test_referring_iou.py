import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.registry import METRICS
from mmseg.structures import SegDataSample
from scored_items import item, pair, read_dump, score
from torchmetrics.classification import BinaryJaccardIndex

from dit_sam.errors import InputError
from dit_sam.evaluation import ReferringIoU
from dit_sam.evaluation.scores import Areas, scores_of


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


@pytest.mark.parametrize(
    'inside, drawn, message',
    [
        (255, 1, 'the prediction for "a" of b.png has the values 0, 255: masks have 1 in the object'),
        (0.9, 1, 'the prediction for "a" of b.png has the values 0, 0.9'),
        (1, 7, 'the truth for "a" of b.png has the values 0, 7'),
    ],
)
def test_masks_with_other_values_are_refused(inside, drawn, message):
    """They would count as empty, and two of them as equal."""
    one = item(2, 1, 3)['pred_sem_seg']['data'][0], item(2, 1, 3)['gt_sem_seg']['data'][0]
    with pytest.raises(InputError, match=message):
        score([pair(one[0] * inside, one[1] * drawn, text='a', img_path='b.png')])


def test_a_truth_of_0_and_255_is_warned_of(capsys):
    """All of its object is ignored; it may be a file that marks the object by 255."""
    one = item(2, 1, 3)['gt_sem_seg']['data'][0]
    score([pair(one, one * 255, text='a', img_path='b.png'), pair(one, one * 255, text='c', img_path='d.png')])
    assert capsys.readouterr().out.count('the truth for "a" of b.png has the value 255') == 1
    score([pair(one, one * 255, no_target=True)])
    assert 'has the value 255' not in capsys.readouterr().out


@pytest.mark.parametrize('tenths', [5, 6, 7, 8, 9])
def test_an_iou_of_exactly_x(tenths):
    """It is not above X, but LAVT and ReLA count it."""
    exact, name = [item(tenths, 10 - tenths)], f'P@{tenths / 10}'
    assert score(exact)[name] == 0
    assert score(exact, protocol='lavt480')[name] == score(exact, generalized=True)[name] == 100
    assert score([item(2 * tenths + 1, 19 - 2 * tenths)])[name] == 100  # (2 * tenths + 1) / 20


def test_empty_masks():
    assert score([item(0)])['mIoU'] == 100
    assert score([item(0)])['oIoU'] == 100
    scores = score([item(0), item(0, 5), item(0, 0, 5), item(1, 1)])
    assert scores['mIoU'] == (1 + 0 + 0 + 1 / 2) / 4 * 100
    assert scores['oIoU'] == pytest.approx((0 + 0 + 0 + 1) / (0 + 5 + 5 + 2) * 100)


def test_empty_prediction_without_a_target_can_count_zero():
    items = [item(0), item(1, 1), item(0, 0, 5)]
    scores = score(items, empty_iou=0)
    assert (scores['mIoU'], scores['P@0.5'], scores['oIoU']) == (pytest.approx(1 / 2 / 3 * 100), 0, 1 / 7 * 100)
    assert score(items[:1], empty_iou=0)['oIoU'] == 0


def test_full_masks():
    assert score([item(20)]) == dict.fromkeys(['oIoU', 'mIoU', 'P@0.5', 'P@0.6', 'P@0.7', 'P@0.8', 'P@0.9'], 100)
    assert score([item(7, 13)])['mIoU'] == pytest.approx(7 / 20 * 100)


def test_generalized_scores_by_hand():
    # Without a target: two rightly left empty, one not. With one: one missed, IoU 3/4, IoU 7/10.
    items = [item(0), item(0), item(0, 6), item(0, 0, 5), item(3, 1), item(7, 1, 2)]
    scores = score(items, generalized=True)
    assert scores == {
        'gIoU': pytest.approx((1 + 1 + 0 + 0 + 3 / 4 + 7 / 10) / 6 * 100),
        'cIoU': pytest.approx((0 + 0 + 0 + 0 + 3 + 7) / (0 + 0 + 6 + 5 + 4 + 10) * 100),
        'N-acc': pytest.approx(2 / 3 * 100),
        'T-acc': pytest.approx(2 / 3 * 100),
        'P@0.5': pytest.approx(2 / 3 * 100),
        'P@0.6': pytest.approx(2 / 3 * 100),
        'P@0.7': pytest.approx(2 / 3 * 100),  # 7/10 counts
        'P@0.8': 0,
        'P@0.9': 0,
    }
    assert all(type(value) is float for value in scores.values())


def test_generalized_scores_without_sentences_are_left_out():
    assert 'N-acc' not in score([item(1)], generalized=True)
    assert score([item(0)], generalized=True) == {'gIoU': 100, 'cIoU': 100, 'N-acc': 100}
    assert score([item(0, 1)], generalized=True) == {'gIoU': 0, 'cIoU': 0, 'N-acc': 0}


def test_no_target_in_scores_follows_the_annotation():
    """Two targets that draw no pixel, one of them left empty, and a sentence without a target."""
    items = [item(0, no_target=False), item(0, 4, no_target=False), item(0, no_target=True)]
    scores = score(items, generalized=True)
    assert (scores['N-acc'], scores['T-acc'], scores['P@0.5']) == (100, 50, 0)
    assert (scores['gIoU'], scores['cIoU']) == (pytest.approx(1 / 3 * 100), 0)
    assert score(items[:1]) == dict.fromkeys(['oIoU', 'mIoU', 'P@0.5', 'P@0.6', 'P@0.7', 'P@0.8', 'P@0.9'], 0)
    assert score(items[:1], protocol='lavt480')['mIoU'] == 0


def test_small_predictions_can_count_as_empty():
    items = [item(0, 4), item(4, 0, 1), item(5)]
    assert score(items, generalized=True)['N-acc'] == 0
    scores = score(items, generalized=True, min_area=5)
    assert (scores['N-acc'], scores['T-acc']) == (100, 50)
    assert scores['cIoU'] == (0 + 0 + 5) / (0 + 5 + 5) * 100


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(prefix='mIoU'), "prefix='mIoU' names the score mIoU: choose another prefix"),
        (dict(prefix='val/P@0.5'), "prefix='val/P@0.5' names the score P@0.5"),
        (dict(protocol='lavt'), "no protocol 'lavt': choose one of original, lavt480, rela480, dit"),
        (dict(empty_iou=0.5), 'empty_iou is 0 or 1, got 0.5'),
        (dict(dump_masks=True), r'dump_masks=True needs a file, dump=FILE\.jsonl'),
    ],
    ids=['prefix', 'part of a prefix', 'protocol', 'empty_iou', 'dump_masks'],
)
def test_wrong_arguments_are_an_error(arguments, message):
    with pytest.raises(InputError, match=message):
        ReferringIoU(**arguments)


def test_a_dump_that_cannot_be_written_is_refused_before_the_test(tmp_path):
    with pytest.raises(InputError, match=f'{tmp_path} is a folder: name a file in it'):
        ReferringIoU(dump=str(tmp_path))
    metric = ReferringIoU(dump=str(tmp_path / 'dump.jsonl'))
    metric.process({}, [item(2, 1, 3)])
    (tmp_path / 'dump.jsonl').mkdir()
    with pytest.raises(InputError, match='dump.jsonl could not be written'):
        metric.evaluate(1)


@pytest.mark.parametrize('protocol', ['original', 'lavt480'])
def test_masks_of_different_shape_are_an_error(protocol):
    wrong = item(1, text='the cat', sent_id=3, img_path='a.jpg')
    wrong['gt_sem_seg']['data'] = torch.ones(2, 4, 5)
    with pytest.raises(InputError, match=r'\(1, 4, 5\).*\(2, 4, 5\).*"the cat" \(sentence 3\) of a\.jpg'):
        score([wrong], protocol=protocol)


def test_each_item_has_one_result():
    """Or mmengine would take the rest for padding."""
    metric = ReferringIoU()
    metric.process({}, [item(1), item(2)])
    metric.process({}, [item(3)])
    assert [[result.areas.intersection for result in results] for results in metric.results] == [[1], [2], [3]]


def test_nothing_to_score_is_an_error():
    with pytest.raises(InputError, match='nothing to score'):
        ReferringIoU().evaluate(0)


def test_areas_beyond_float32_are_exact():
    """2^24 + 1 has no float32."""
    areas = [Areas(2**24, 2**24, 2**24, False), Areas(1, 1, 1, False), Areas(0, 1, 0, True)]
    assert scores_of(areas)['oIoU'] == (2**24 + 1) / (2**24 + 2) * 100


@pytest.mark.parametrize('share', [0.0, 0.2, 0.5, 0.9])
def test_against_torchmetrics(share):
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        prediction, truth = (torch.rand(2, 13, 17, generator=generator) < share).long()
        reference = BinaryJaccardIndex(zero_division=1)(prediction, truth)
        scores = score([pair(prediction, truth)])
        assert scores['mIoU'] == pytest.approx(float(reference) * 100, rel=1e-6)
        assert scores['oIoU'] == pytest.approx(scores['mIoU'])


def test_overall_iou_against_torchmetrics():
    """BinaryJaccardIndex sums intersections and unions over its updates; here over masks of different size."""
    reference, items = BinaryJaccardIndex(), []
    for seed, size in enumerate([(5, 9), (20, 30), (7, 2)]):
        prediction, truth = (torch.rand(2, *size, generator=torch.Generator().manual_seed(seed)) < 0.5).long()
        reference.update(prediction, truth)
        items.append(pair(prediction, truth))
    expected = pytest.approx(float(reference.compute()) * 100, rel=1e-6)
    assert score(items)['oIoU'] == score(items, generalized=True)['cIoU'] == expected


AREAS = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.sampled_from(['a', 'b', None]))


@settings(max_examples=50, deadline=None)
@given(areas=st.lists(AREAS, min_size=1, max_size=12), generalized=st.booleans(), data=st.data())
def test_order_batches_and_ranks_do_not_matter(areas, generalized, data):
    """The results of two ranks, in another order and in other batches, give the very same floats."""
    items = [item(both, one, other, **({} if kind is None else dict(kind=kind))) for both, one, other, kind in areas]
    expected = score(items, group_by='kind', generalized=generalized)
    shuffled = data.draw(st.permutations(items))
    cut = data.draw(st.integers(0, len(items)))
    merged = ReferringIoU(group_by='kind', generalized=generalized)
    for part in (shuffled[:cut], shuffled[cut:]):
        rank = ReferringIoU(group_by='kind', generalized=generalized)
        for sample in part:
            rank.process({}, [sample])
        merged.results.extend(rank.results)
    assert merged.evaluate(len(items)) == expected


@settings(max_examples=50, deadline=None)
@given(areas=st.lists(AREAS, min_size=1, max_size=12))
def test_generalized_scores_are_bounded_and_consistent(areas):
    items = [item(*area[:3]) for area in areas]
    scores, plain = score(items, generalized=True), score(items)
    assert all(0 <= value <= 100 for value in scores.values())
    assert (scores['gIoU'], scores['cIoU']) == (plain['mIoU'], plain['oIoU'])
    assert ('N-acc' in scores) == any(both + other == 0 for both, _, other, _ in areas)
    assert ('T-acc' in scores) == any(both + other > 0 for both, _, other, _ in areas)


def test_in_an_evaluator(caplog):
    sample = SegDataSample(metainfo=dict(text='the cat', kind='attribute'))
    sample.pred_sem_seg = PixelData(data=torch.ones(1, 2, 3, dtype=torch.uint8))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[1, 1, 0], [0, 0, 0]]]))
    sample.input_probabilities = PixelData(data=torch.ones(1, 4, 6))
    for protocol in ('original', 'lavt480', 'dit'):
        metric = METRICS.build(dict(type='ReferringIoU', group_by='kind', prefix='val', protocol=protocol))
        evaluator = Evaluator([metric])
        evaluator.process([sample], {})
        scores = evaluator.evaluate(1)
        assert scores['val/oIoU'] == scores['val/mIoU/attribute'] == pytest.approx(2 / 6 * 100)


NUMBERED = [item(number % 5, number % 3, number % 7, sent_id=number, kind='ab'[number % 2]) for number in range(13)]
BATCH_SIZES = (1, 4)


def score_one_rank(rank: int, world_size: int, folder: str) -> None:
    """Score as one process of a distributed test, with two batch sizes."""
    os.chdir(folder)
    torch.distributed.init_process_group('gloo', f'file://{folder}/rendezvous', rank=rank, world_size=world_size)
    share = list(DefaultSampler(NUMBERED, shuffle=False))
    for batch_size in BATCH_SIZES:
        metric = ReferringIoU(group_by='kind', dump=f'dump_{batch_size}.jsonl')
        for start in range(0, len(share), batch_size):
            metric.process({}, [NUMBERED[index] for index in share[start : start + batch_size]])
        scores = metric.evaluate(len(NUMBERED))
        Path(f'scores_{batch_size}_{rank}.json').write_text(json.dumps(scores))
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_scores_of_one(tmp_path):
    """Thirteen items and two processes: the sampler repeats one, and it counts once. Every process has the scores."""
    torch.multiprocessing.start_processes(score_one_rank, (2, str(tmp_path)), nprocs=2, start_method='forkserver')
    path = str(tmp_path / 'expected.jsonl')
    expected = score(NUMBERED, group_by='kind', dump=path)
    assert [line['sent_id'] for line in read_dump(path)] == list(range(13))
    for batch_size in BATCH_SIZES:
        for rank in range(2):
            assert json.loads((tmp_path / f'scores_{batch_size}_{rank}.json').read_text()) == expected
        assert read_dump(str(tmp_path / f'dump_{batch_size}.jsonl')) == read_dump(path)
