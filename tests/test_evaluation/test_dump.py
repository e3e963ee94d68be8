"""The dump: one line per sentence."""

import os

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scored_items import item, read_dump, score

from dit_sam.datasets import PackReferringInputs
from dit_sam.evaluation.dump import COPIED
from dit_sam.evaluation.protocols import stretch_array


def test_dump_by_hand(tmp_path):
    path = tmp_path / 'new' / 'dump.jsonl'
    about = dict(sent_id=9, kind='place', img_path='a/b.jpg', category_id=5)
    unlike_the_dump = dict(text='the\u2028"café"', img_id=np.int64(7), ann_id=(3, 4), ref_id=1, scale_factor=2)
    items = [item(2, 1, 3, **about, **unlike_the_dump), item(0, text='a unicorn')]
    scores = score(items, dump=str(path))
    first, second = read_dump(str(path))
    assert first == dict(
        about,
        img_id=7,
        ref_id=1,
        ann_id=[3, 4],
        sentence='the\u2028"café"',
        height=4,
        width=5,
        protocol='original',
        pixels=20,
        iou=2 / 6,
        intersection=2,
        union=6,
        prediction_area=3,
        truth_area=5,
        no_target=False,
        empty_iou=1,
    )
    assert (second['sentence'], second['iou'], second['union'], second['no_target']) == ('a unicorn', 1, 0, True)
    assert scores['mIoU'] == (first['iou'] + second['iou']) / 2 * 100
    assert os.listdir(path.parent) == ['dump.jsonl']
    assert score(items[:1], dump=str(path)) and len(read_dump(str(path))) == 1  # a new one replaces it


def test_lines_are_in_the_order_of_the_data_set(tmp_path):
    """Items of ranks alternate and are sorted by index. Joined data sets share indices, so they are not sorted."""
    items = [item(1, text='c', sample_idx=2), item(2, text='a', sample_idx=0), item(3, text='b', sample_idx=1)]
    path = tmp_path / 'dump.jsonl'
    for places, order in (((2, 0, 1), 'abc'), ((2, 0, 0), 'cab'), ((2, None, 1), 'cab')):
        for one, place in zip(items, places):
            one.update(sample_idx=place)
        score(items, dump=str(path))
        assert ''.join(line['sentence'] for line in read_dump(str(path))) == order


def test_any_script_is_readable(tmp_path):
    path = tmp_path / 'dump.jsonl'
    score([item(0, text='左边的人')], dump=str(path), empty_iou=0)
    (line,) = read_dump(path)
    assert '左边的人' in path.read_text(encoding='utf-8') and line['iou'] == line['empty_iou'] == 0


def test_the_score_of_an_empty_mask_is_zero(tmp_path):
    path = str(tmp_path / 'dump.jsonl')
    score([item(0, 0, 3, predicted_iou=0.8), item(1, predicted_iou=0.8), item(1)], dump=path)
    assert [line.get('score') for line in read_dump(path)] == [0, 0.8, None]


def test_the_pipeline_passes_on_the_keys_of_a_line():
    assert set(COPIED) <= set(PackReferringInputs().meta_keys)


@pytest.mark.parametrize('protocol', ['original', 'lavt480'])
def test_dumped_masks_are_those_of_the_image(tmp_path, protocol):
    path = str(tmp_path / 'dump.jsonl')
    sample = item(3, 2, 4)
    score([sample, item(0, 1)], protocol=protocol, min_area=2, dump=path, dump_masks=True)
    first, second = read_dump(path)
    for key, field in (('prediction', 'pred_sem_seg'), ('truth', 'gt_sem_seg')):
        assert np.array_equal(coco_mask.decode(first[key]), sample[field]['data'][0])
    # One pixel of 20 is too little to count, but its stretched version at 480 x 480 is not.
    assert coco_mask.decode(second['prediction']).any() == (protocol == 'lavt480')
    assert first['pixels'] == (20 if protocol == 'original' else 480 * 480)
    assert first['truth_area'] / first['pixels'] == 7 / 20


def test_a_line_that_a_protocol_misses_is_dumped(tmp_path):
    """Of 960 rows, the protocol looks at 480."""
    path, sample = str(tmp_path / 'dump.jsonl'), item(0, 1)
    data = torch.zeros(1, 960, 480, dtype=torch.long)
    seen = stretch_array(np.arange(960)[:, None].repeat(480, 1), 480)[:, 0]
    data[:, next(row for row in range(960) if row not in seen)] = 1
    sample['pred_sem_seg'], sample['gt_sem_seg'] = dict(data=data), dict(data=torch.zeros_like(data))
    score([sample], protocol='lavt480', dump=path, dump_masks=True)
    assert coco_mask.decode(read_dump(path)[0]['prediction']).sum() == 480
