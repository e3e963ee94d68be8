"""The rules of the literature: by hand, against the numbers of other projects' code, and against `ReferringIoU`."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from scored_files import rows, score_lines, truth_line, write_lines

from dit_sam.datasets import GRefCOCODataset, RefCOCODataset
from dit_sam.datasets.shapes import write_shapes
from dit_sam.evaluation import ReferringIoU
from dit_sam.scoring import RULES, Rule, Truths, boundary_of, groupings, make_report, open_data, score_answers
from dit_sam.utils import encode_rle

GOLDEN = Path(__file__).parents[3] / 'shared' / 'golden_scores'


def scores(sheet, name: str) -> dict:
    return RULES[name].scores(sheet.areas(RULES[name]))


def test_ties_and_empty_masks_by_hand(tmp_path):
    """IoU 7/10, 1/2, nothing for nothing, and something for nothing."""
    truths = [truth_line('a.jpg', rows(0, 10), 'a', 'b'), truth_line('b.jpg', None, 'c', 'd')]
    masks = (rows(0, 7), rows(0, 5), None, rows(0, 1))
    sheet, _ = score_lines(tmp_path, truths, [dict(sent_id=i, segmentation=mask) for i, mask in enumerate(masks)])
    found = {name: scores(sheet, name) for name in RULES}
    # Intersections 7 + 5 rows; unions 10 + 10 + 0 + 1.
    assert found['original']['oIoU'] == pytest.approx(100 * 12 / 21)
    assert found['original']['mIoU'] == pytest.approx(100 * (0.7 + 0.5 + 1 + 0) / 4)
    assert found['original']['N-acc'] == 50 and found['original']['T-acc'] == 100
    # Of the two sentences with a target both have 0.5 or more, one has 0.7 or more.
    assert found['original']['P@0.5'] == 100 and found['original']['P@0.7'] == 50
    assert found['EVF-SAM']['mIoU'] == pytest.approx(55) and found['mmdet']['mIoU'] == pytest.approx(30)
    # CRIS: more than 0.5; 0.7 counts, because its thresholds are float32. The empty pair has IoU 0 there.
    assert 'oIoU' not in found['CRIS'] and found['CRIS']['mIoU'] == pytest.approx(30, abs=1e-6)
    assert (found['CRIS']['P@0.5'], found['CRIS']['P@0.7']) == (25, 25)
    # EVF-SAM: 0.7 and the empty pair are above 0.5, the pair with exactly 0.5 is not.
    assert (found['EVF-SAM']['P@0.5'], found['EVF-SAM']['P@0.7']) == (50, 25)
    # LAVT: stretching rows from 20 to 480 keeps the shares; 0.5 and more.
    assert (found['LAVT']['mIoU'], found['LAVT']['P@0.5']) == (pytest.approx(30), 50)
    assert found['ReLA']['N-acc'] == 50


def test_groups_count_ties_as_the_total_does(tmp_path):
    """Where some sentence of the data has no target, P@X is of an IoU of X and more, also in groups without such."""
    truths = [truth_line('a.jpg', rows(0, 10), 'a', kind='A'), truth_line('b.jpg', None, 'b', kind='B')]
    sheet, found = score_lines(tmp_path, truths, [dict(sent_id=i, segmentation=rows(0, 5)) for i in range(2)])
    report = make_report(sheet, groupings(sheet, found), rounds=10)
    assert report.rules['original']['P@0.5'] == report.groups['kind']['A'].scores['P@0.5'] == 100
    assert report.rules['DIT']['P@0.5'] == 0


@pytest.mark.parametrize('x, counts', [(0.5, False), (0.6, False), (0.7, True), (0.8, False), (0.9, True)])
def test_cris_compares_with_thresholds_in_float32(tmp_path, x, counts):
    """As `torch.arange(0.5, 1.0, 0.1)` gives them. 240 pixels make 1e-6 in the union too small to matter."""
    sheet, _ = score_lines(
        tmp_path, [truth_line('a.jpg', rows(0, 10), 'a')], [dict(sent_id=0, segmentation=rows(0, round(10 * x)))]
    )
    thresholds = dict(zip((0.5, 0.6, 0.7, 0.8, 0.9), torch.arange(0.5, 1.0, 0.1)))
    iou = torch.tensor([x * 300 / (300 + 1e-6)], dtype=torch.float64)
    assert bool(iou > thresholds[x]) == counts
    assert scores(sheet, 'CRIS')[f'P@{x}'] == 100 * counts


def test_pixels_that_two_polygons_cover_are_in_no_truth_of_lavt_and_evf_sam(tmp_path):
    """Two squares of one object share 10 of their 30 columns. The prediction is their union."""
    squares = [[0, 0, 20, 0, 20, 20, 0, 20], [10, 0, 30, 0, 30, 20, 10, 20]]
    about = dict(image_id=1, category_id=1)
    annotation = dict(about, id=1, iscrowd=0, segmentation=squares, area=600, bbox=[0, 0, 30, 20])
    image = dict(id=1, file_name='a.jpg', height=20, width=30)
    content = dict(images=[image], annotations=[annotation], categories=[dict(id=1, name='cat')])
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    sentences = [dict(sent_id=0, sent='a', raw='a', tokens=['a'])]
    ref = dict(about, ref_id=1, ann_id=1, split='val', file_name='a.jpg', sent_ids=[0], sentences=sentences)
    (tmp_path / 'refs.p').write_bytes(pickle.dumps([ref]))
    truths = Truths(open_data(str(tmp_path / 'instances.json'), str(tmp_path / 'refs.p')))
    sheet = score_answers(write_lines(tmp_path / 'a.jsonl', dict(sent_id=0, segmentation=rows(0, 20))), truths)
    found = {name: scores(sheet, name)['mIoU'] for name in RULES}
    summed = {name for name, value in found.items() if value == pytest.approx(200 / 3)}
    assert summed == {'LAVT', 'EVF-SAM'} and all(found[name] == pytest.approx(100) for name in set(RULES) - summed)
    # 10 x 20 pixels, which the note names.
    (note,) = make_report(sheet, {}, rounds=9).notes
    assert note == (
        'LAVT and EVF-SAM: of 1 references 1 have pixels that several polygons of an object cover, 200 in all, which '
        'their code takes for background'
    )
    alone = score_answers(str(tmp_path / 'a.jsonl'), truths, ('EVF-SAM',))
    assert scores(alone, 'EVF-SAM') == scores(sheet, 'EVF-SAM')


@pytest.fixture(scope='module')
def golden(tmp_path_factory):
    """The sheets of 336 pairs, once with every truth a target and once with empty truths as no target, and kinds."""
    if not GOLDEN.is_dir():
        pytest.skip('the masks that others scored are not here')
    folder = tmp_path_factory.mktemp('golden')
    pairs = [json.loads(line) for line in (GOLDEN / 'masks.jsonl').read_text().splitlines()]
    kinds = np.array([pair['kind'] for pair in pairs])
    truths = []
    for i, pair in enumerate(pairs):
        size = pair['truth']['size']
        empty = pair['kind'].startswith('emptytruth')
        truths.append(
            dict(
                image=f'{i}.jpg',
                height=size[0],
                width=size[1],
                sentence='a',
                segmentation=None if empty else pair['truth'],
            )
        )
    answers = [dict(sent_id=i, segmentation=pair['prediction']) for i, pair in enumerate(pairs)]
    sheet, _ = score_lines(folder, truths, answers)
    return sheet, kinds


@pytest.mark.parametrize(
    'name, rule, names, tolerance',
    [
        ('LAVT evaluate, 480x480 nearest, all 336', RULES['LAVT'], {}, 1e-9),
        ('LAVT evaluate, 480x480 nearest, 290 with a truth', RULES['LAVT'], {}, 1e-9),
        ("CRIS inference, original size, without 'emptytruth_*' and 'exact'", RULES['CRIS'], {}, 1e-6),
        ('mmdet 3.3.0 RefSegMetric, 290 with a truth', RULES['mmdet'], dict(cIoU='oIoU'), 1e-6),
        (
            'torchmetrics binary_jaccard_index, mean over 290 with a truth',
            RULES['mmdet'],
            dict(accumulated='oIoU'),
            1e-6,
        ),
        ('EVF-SAM evaluation, 290 with a truth', RULES['EVF-SAM'], dict(gIoU='mIoU', cIoU='oIoU'), 1e-6),
        (
            'ReLA ReferEvaluator, all 336, decision = empty mask',
            # These masks were scored at their own size.
            Rule(generalized=True, inclusive=True),
            dict(gIoU='mIoU', cIoU='oIoU', T_acc='T-acc', N_acc='N-acc')
            | {f'Pr@{x}': f'P@{x}' for x in (0.7, 0.8, 0.9)},
            1e-9,
        ),
    ],
)
def test_against_the_scores_of_others(golden, name, rule, names, tolerance):
    sheet, kinds = golden
    chosen = np.array(['all' in name or not kind.startswith('emptytruth') for kind in kinds])
    if 'exact' in name:
        chosen &= kinds != 'exact'
    ours = rule.scores(sheet.areas(rule, np.flatnonzero(chosen)))
    expected = json.loads((GOLDEN / 'scores.json').read_text())[name]
    expected.pop('note', None)
    for key, value in expected.items():
        fraction = 100 if key.endswith('_acc') else 1
        assert ours[names.get(key, key)] / fraction == pytest.approx(value, rel=tolerance), key


@pytest.mark.parametrize(
    'generalized, metric, rule',
    [
        (True, dict(generalized=True), 'original'),
        (True, dict(generalized=True, protocol='rela480'), 'ReLA'),
        (False, dict(), 'original'),
        (False, dict(protocol='lavt480', empty_iou=0), 'LAVT'),
        (False, dict(), 'EVF-SAM'),
    ],
)
def test_the_dump_of_the_metric_has_the_metrics_own_scores(tmp_path, generalized, metric, rule):
    """To the last digit: predictions are the truths, shifted, some of them empty."""
    init_default_scope('mmseg')
    write_shapes(tmp_path, 6, seed=3, splits=dict(val=1.0), generalized=generalized)
    name = 'gshapes' if generalized else 'shapes'
    refs = tmp_path / name / ('grefs(unc).json' if generalized else 'refs(unc).p')
    instances = tmp_path / name / 'instances.json'
    # Two polygons that overlap, which LAVT adds.
    content = json.loads(instances.read_text())
    for annotation in content['annotations'][::2]:
        annotation['segmentation'] = [[40, 40, 90, 40, 90, 90, 40, 90], [60, 60, 130, 60, 130, 110, 60, 110]]
    instances.write_text(json.dumps(content))
    files = dict(ann_file=str(instances), refs_file=str(refs), split='val')
    dataset = (GRefCOCODataset if generalized else RefCOCODataset)(
        **files,
        data_prefix=dict(img_path=str(tmp_path / 'images')),
        keep_outlines=True,
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='LoadReferringMask',
                covered_twice=rule not in ('LAVT', 'EVF-SAM'),
                scaled_side=480 if rule == 'ReLA' else None,
            ),
            dict(type='PackReferringInputs'),
        ],
    )
    referring_iou = ReferringIoU(**metric, dump=str(tmp_path / 'dump.jsonl'), dump_masks=True)
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        shifted = sample.gt_sem_seg.data.roll(i % 7, -1) * (i % 5 > 0)
        sample.set_field(type(sample.gt_sem_seg)(data=shifted), 'pred_sem_seg')
        referring_iou.process({}, [sample.to_dict()])
    expected = referring_iou.evaluate(len(dataset))
    truths = Truths(open_data(str(instances), str(refs), images=str(tmp_path / 'images')))
    sheet = score_answers(str(tmp_path / 'dump.jsonl'), truths)
    ours = scores(sheet, rule)
    assert not sheet.problems.lines()
    for name, value in expected.items():
        assert ours[dict(gIoU='mIoU', cIoU='oIoU').get(name, name)] == value, name
    assert any(sheet.covered_twice.values())


def test_boundary_iou_as_its_authors_erode(tmp_path):
    """Against OpenCV's repeated erosion by 3 x 3 with a border of zeros."""
    import cv2

    rng = np.random.default_rng(0)
    for size in ((40, 60), (200, 310), (7, 5)):
        mask = cv2.GaussianBlur(rng.random(size), (0, 0), max(1, size[0] / 15)) > 0.5
        width = max(1, round(0.02 * np.hypot(*size)))
        padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
        np.testing.assert_array_equal(boundary_of(mask), mask & ~inner.astype(bool))
    # Squares of 10 and 8 pixels: of 20 x 30 pixels the boundary is 1 pixel wide, 36 and 28 pixels; the corner between
    # them is shared where both touch the left and the upper border.
    truth, prediction = np.zeros((2, 20, 30), bool)
    truth[:10, :10] = prediction[:8, :8] = True
    line = truth_line('a.jpg', encode_rle(truth), 'a')
    sheet, _ = score_lines(tmp_path, [line], [dict(sent_id=0, segmentation=encode_rle(prediction))])
    assert sheet.boundary.tolist() == [[15, 36 + 28 - 15]]


def test_no_rule_depends_on_the_order_of_the_answers(tmp_path):
    rng = np.random.default_rng(1)
    truths = [truth_line(f'{i}.jpg', rows(0, int(rng.integers(1, 20))), 'a', 'b') for i in range(10)]
    answers = [dict(sent_id=i, segmentation=rows(0, int(rng.integers(0, 20)))) for i in range(20)]
    sheet, found = score_lines(tmp_path, truths, answers)
    again = score_answers(write_lines(tmp_path / 'other.jsonl', *rng.permutation(answers)), found)
    assert {name: scores(sheet, name) for name in RULES} == {name: scores(again, name) for name in RULES}
