"""Scores by group, and the worst cases as pictures, from a dump of the metric itself."""

import json
import runpy

import cv2
import numpy as np
import pytest
import torch
from processes import ROOT

from dit_sam.evaluation import ReferringIoU

TOOL = str(ROOT / 'tools' / 'analysis_tools' / 'analyze_results.py')
TRUTH, SIZE = (slice(5, 25), slice(10, 30)), (40, 60)


@pytest.fixture
def dump(tmp_path):
    """`dump(*items, **kwargs)` scores items and returns the file; an item is the prediction's rows and metainfo."""

    def write(*items, **kwargs) -> str:
        path = str(tmp_path / 'dump.jsonl')
        metric = ReferringIoU(dump=path, **kwargs)
        for rows, metainfo in items:
            prediction, truth = torch.zeros(2, 1, *SIZE, dtype=torch.int64)
            prediction[0, TRUTH[0].start : TRUTH[0].start + rows, TRUTH[1]] = 1
            if not metainfo.pop('no_target', False):
                truth[0][TRUTH] = 1
            metric.process({}, [dict(pred_sem_seg=dict(data=prediction), gt_sem_seg=dict(data=truth), **metainfo)])
        metric.evaluate(len(items))
        return path

    return write


def cells(output: str, row: str) -> list:
    """The cells of the first row of that name after its number of sentences."""
    line = next(line for line in output.splitlines() if line.startswith('|') and line.split('|')[1].strip() == row)
    return [cell.strip() for cell in line.split('|')[2:-1]]


def test_scores_by_group(output_of, dump, tmp_path):
    # 20 rows of the truth, of which the prediction has 10, 20, 5 and 0: IoU 1/2, 1, 1/4 and 0. It takes 1/6 of the
    # picture.
    path = dump(
        (10, dict(text='red star', kind='attribute', category_id=1)),
        (20, dict(text='the red star', kind='attribute', category_id=2)),
        (5, dict(text='the star on the left of it', kind='all', category_id=10)),
        (0, dict(text='a b', category_id=1)),
    )
    categories = tmp_path / 'instances.json'
    categories.write_text(json.dumps(dict(categories=[dict(id=1, name='star'), dict(id=2, name='cup')])))
    output = output_of(TOOL, path, '--categories', categories)
    expected = {
        'all': ['4', '43.75', '43.75'],
        'attribute': ['2', '75.00', '75.00'],
        '1 to 2 words': ['2', '25.00', '25.00'],
        '3 words': ['1', '100.00', '100.00'],
        '6 to 7 words': ['1', '25.00', '25.00'],
        'star': ['2', '25.00', '25.00'],
        'cup': ['1', '100.00', '100.00'],
        '10': ['1', '25.00', '25.00'],
        '10 to 25 %': ['4', '43.75', '43.75'],
    }
    assert {row: cells(output, row)[:3] for row in expected} == expected
    kinds = [
        [cell.strip() for cell in line.split('|')[1:3]]
        for line in output.split('\n\n')[0].splitlines()
        if line.startswith('|')
    ]
    assert kinds[1:] == [['all', '4'], ['all', '1'], ['attribute', '2']]  # the total first
    assert output.index('3 words') < output.index('6 to 7 words')
    assert cells(output, '3 words')[-1] == '100.00'  # P@0.9


def test_sentences_without_a_target_have_the_generalized_scores(output_of, dump):
    output = output_of(TOOL, dump((0, dict(text='a unicorn', no_target=True)), (20, dict(text='the red star'))))
    assert 'N-acc' in output
    assert cells(output, 'no object')[:5] == ['1', '100.00', '100.00', '100.00', '-']
    assert 'No line has a kind.' in output and 'No line has a category.' in output


def test_bounds_of_groups():
    tool = runpy.run_path(TOOL)
    lengths = [tool['by_length'](dict(sentence='word ' * number)) for number in (0, 1, 2, 3, 5, 7, 10, 20, 21, 99)]
    assert lengths == [
        None,
        '1 to 2 words',
        '1 to 2 words',
        '3 words',
        '4 to 5 words',
        '6 to 7 words',
        '8 to 10 words',
        '11 to 20 words',
        '21 or more words',
        '21 or more words',
    ]
    sizes = [tool['by_size'](dict(no_target=False, truth_area=area, pixels=1000)) for area in (1, 9, 10, 100, 1000)]
    assert sizes == ['0 to 1 %', '0 to 1 %', '1 to 2 %', '10 to 25 %', '50 to 100 %']


def test_several_categories_are_a_group():
    category = runpy.run_path(TOOL)['by_category']({1: 'cat', 2: 'dog'})
    lines = [dict(category_id=value) for value in ([2, 1, 2], 1, [3], [], None)]
    assert [category(line) for line in lines] == ['cat + dog', 'cat', '3', '', None]


def test_the_worst_cases_are_drawn(output_of, dump, tmp_path):
    image = tmp_path / 'gray.png'
    cv2.imwrite(str(image), np.full((*SIZE, 3), 128, np.uint8))
    path = dump(
        (10, dict(text='half', img_path=str(image))),
        (20, dict(text='all', img_path=str(image))),
        (0, dict(text='nothing', img_path=str(image))),
        (5, dict(text='no such', img_path=str(image), no_target=True)),
        dump_masks=True,
    )
    out = tmp_path / 'worst'
    output = output_of(TOOL, path, '--worst', 3, '--out', out)
    written = [out / name for name in ('001_gray_nothing_1.png', '002_gray_no-such_1.png', '003_gray_half_1.png')]
    assert output.split('written:\n')[1].split() == [str(file) for file in written]
    # The picture is enlarged 8 times. Row 12 is in both masks, row 20 in the truth alone, whose left border is at 10.
    half = cv2.imread(str(written[2]))
    inside, outside, border, beside = (
        half[row * 8 + 4, column * 8 + 4] for row, column in ((12, 20), (20, 20), (20, 10), (20, 40))
    )
    assert (inside != 128).any() and (border != 128).any()
    assert (outside == 128).all() and (beside == 128).all()
    output_of(TOOL, path, '--worst', 3, '--out', out)
    assert len(list(out.iterdir())) == 6


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(), 'the dump has no masks to draw: score again with test_evaluator.dump_masks=True'),
        (dict(dump_masks=True), 'image lost.png of the dump not found: run this in the folder where tools/test.py ran'),
    ],
    ids=['masks', 'image'],
)
def test_missing_masks_and_images_are_one_line_errors(error_of, dump, kwargs, message):
    path = dump((1, dict(text='star', img_path='lost.png')), **kwargs)
    assert error_of(TOOL, path, '--worst', 1, alone=True) == message


def test_wrong_files_get_one_line(error_of, dump, tmp_path):
    path = dump((1, dict(text='star')))
    for arguments, message in (
        ([tmp_path / 'none.jsonl'], f'dump {tmp_path}/none.jsonl not found: '),
        ([path, '--categories', 'none.json'], '--categories none.json not found: '),
        ([path, '--categories', path], f'--categories {path} has no COCO categories'),
    ):
        assert error_of(TOOL, *arguments, alone=True).startswith(message)
