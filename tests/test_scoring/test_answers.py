"""Predictions in every form, and what is said about those that cannot be used."""

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scored_files import SIZE, rows, score_lines, truth_line, write_lines

from dit_sam.datasets import ReasonSegDataset
from dit_sam.errors import InputError
from dit_sam.scoring import Truths, make_report, open_data, score_answers

TRUTHS = [
    truth_line('train2014/COCO_train2014_000000000007.jpg', rows(0, 10), 'the man', 'a man'),
    truth_line('b.jpg', rows(10, 20), 'the man'),
]


@pytest.mark.parametrize(
    'answer',
    [
        dict(sent_id=0, segmentation=rows(0, 5)),
        dict(sent_id='0', segmentation=[[0, 0, 30, 0, 30, 5, 0, 5]]),
        dict(sent_id=0, segmentation=dict(size=list(SIZE), counts=[0, *[5, 15] * 30])),
        dict(sent_id=0, prediction=rows(0, 5)),
        dict(sent_id=0, mask='rows.png'),
        dict(sent_id=0, segmentation=None, mask='rows.png'),
        dict(image='COCO_train2014_000000000007.jpg', sentence='the man', segmentation=rows(0, 5)),
        dict(image='/data/val/000000000007.png', sentence='the man', segmentation=rows(0, 5)),
        dict(img_path='train2014/COCO_train2014_000000000007.jpg', sentence='the man', mask='rows.png'),
    ],
)
def test_every_form_of_an_answer(tmp_path, answer):
    mask = np.zeros(SIZE, np.uint8)
    mask[:5] = 255
    cv2.imwrite(str(tmp_path / 'rows.png'), mask)
    sheet, _ = score_lines(tmp_path, TRUTHS, [answer])
    assert sheet.counts['original'].tolist() == [[150, 150, 300], [0, 0, 300], [0, 0, 300]]
    assert sheet.problems.counts == dict(missing=2)


@pytest.mark.parametrize(
    'lines, expected, counted',
    [
        (['{"sent_id": 0, "segm'], 'truncated: 1, the first: line 1 is not JSON: write one object a line', 0),
        ([dict(sent_id=0)], 'incomplete: 1, the first: line 1 lacks a key', 0),
        ([dict(image='b.jpg', segmentation=None)], 'incomplete: 1, the first: line 1 lacks a key', 0),
        (['[1, 2]'], 'incomplete: 1, the first: line 1 lacks a key', 0),
        (
            [dict(sent_id=0, segmentation=rows(0, 1)), dict(sent_id=9, segmentation=None)],
            'unknown: 1, the first: line 2 is for sent_id 9, which the data do not have',
            30,
        ),
        (
            [dict(image='b.jpg', sentence='a dog', segmentation=None)],
            "unknown: 1, the first: line 1 is for 'a dog' of 'b.jpg', which the data do not have",
            0,
        ),
        (
            [dict(sent_id=0, segmentation=rows(0, 1)), dict(sent_id=0, segmentation=rows(0, 9))],
            'duplicate: 1, the first: line 2 answers a sentence a second time; the first answer counts',
            30,
        ),
        (
            [dict(sent_id=0, segmentation=rows(0, 1, (30, 20)))],
            'size: 1, the first: line 1 has a mask of size [30, 20], the picture has [20, 30]',
            0,
        ),
        (
            [dict(sent_id=0, mask='small.png')],
            'size: 1, the first: line 1 has a mask of size [5, 5], the picture has [20, 30]',
            0,
        ),
        ([dict(sent_id=0, mask='none.png')], 'damaged: 1, the first: line 1 names the image', 0),
        (
            [dict(sent_id=0, segmentation=dict(size=list(SIZE), counts='oops'))],
            'damaged: 1, the first: line 1 has an RLE',
            0,
        ),
        ([dict(sent_id=0, segmentation=7)], 'damaged: 1, the first: line 1 has 7 as a mask', 0),
        ([dict(sent_id=0, segmentation=[[1, 2, 3]])], 'damaged: 1, the first: line 1 has a polygon of 3 numbers', 0),
    ],
)
def test_wrong_answers_are_counted_and_named_and_score_as_empty_masks(tmp_path, lines, expected, counted):
    cv2.imwrite(str(tmp_path / 'small.png'), np.ones((5, 5), np.uint8))
    path = tmp_path / 'answers.jsonl'
    path.write_text(''.join((line if isinstance(line, str) else json.dumps(line)) + '\n' for line in lines))
    sheet = score_answers(str(path), Truths(open_data(write_lines(tmp_path / 'truth.jsonl', *TRUTHS))))
    assert expected in '\n'.join(sheet.problems.lines())
    assert sheet.counts['original'][0].tolist() == [counted, counted, 300]
    assert sheet.problems.lines()[-1].startswith('missing: ')


def test_masks_at_the_network_size_are_resized_as_the_released_dit_does(tmp_path):
    """Rows 0 to 4 of 10 x 15 pixels: at 20 x 30 the pixel centers up to 5 rows of them touch the mask, 0 to 10."""
    truths = Truths(open_data(write_lines(tmp_path / 'truth.jsonl', *TRUTHS)))
    small = np.zeros((10, 15), np.uint8)
    small[:5] = 1
    cv2.imwrite(str(tmp_path / 'small.png'), small)
    answers = [dict(sent_id=0, segmentation=rows(0, 5, (10, 15))), dict(sent_id=1, mask='small.png')]
    path = write_lines(tmp_path / 'answers.jsonl', *answers)
    expected = torch.nn.functional.interpolate(torch.tensor(small)[None, None].float(), SIZE, mode='bilinear') > 0
    assert expected.sum() == 330
    for resize, pixels in (('dit', 330), ('nearest', 300)):
        sheet = score_answers(path, truths, resize=resize)
        assert sheet.counts['original'][:2, 1].tolist() == [pixels, pixels] and sheet.problems.counts == dict(missing=1)
    assert score_answers(path, truths).problems.counts == dict(size=2, missing=1)


def test_a_missing_answer_is_named(tmp_path):
    sheet, _ = score_lines(tmp_path, TRUTHS, [dict(sent_id=i, segmentation=None) for i in (0, 2)])
    assert sheet.problems.lines() == [
        'missing: 1, the first: sentence 1 ("a man") of COCO_train2014_000000000007.jpg has no answer'
    ]


def test_a_folder_of_masks(tmp_path):
    """By the names that tools/test.py --out writes, and by the id alone; a file of no sentence is named."""
    masks = tmp_path / 'masks'
    masks.mkdir()
    for name, last in (('COCO_train2014_000000000007_0', 5), ('1', 7), ('b_2', 0), ('zebra', 1)):
        mask = coco_mask.decode(rows(0, last)) * 255
        cv2.imwrite(str(masks / f'{name}.png'), mask)
    truths = Truths(open_data(write_lines(tmp_path / 'truth.jsonl', *TRUTHS)))
    sheet = score_answers(str(masks), truths)
    assert sheet.counts['original'].tolist() == [[150, 150, 300], [210, 210, 300], [0, 0, 300]]
    assert sheet.problems.lines() == [
        'unknown: 1, the first: file zebra.png is for a sentence that the data do not have'
    ]
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match='has no PNG file'):
        score_answers(str(tmp_path / 'empty'), truths)


def test_an_id_of_several_sentences_needs_picture_and_sentence(tmp_path):
    """As in files that count the sentences of each reference from 0; also of pictures of two sizes."""
    truths = [truth_line('a.jpg', rows(0, 10), 'a man'), dict(truth_line('b.jpg', rows(0, 5, (8, 9)), 'a dog'))]
    truths[1].update(height=8, width=9)
    data = Truths(open_data(write_lines(tmp_path / 'truth.jsonl', *truths)))
    data._by_id, data._ids, data._shared_ids = {'0': [0, 1]}, ['0', '0'], {'0'}
    answers = [
        dict(sent_id=0, image='b.jpg', sentence='a dog', segmentation=rows(0, 5, (8, 9))),
        dict(sent_id=0, image='a.jpg', sentence='a man', segmentation=rows(0, 10)),
    ]
    sheet = score_answers(write_lines(tmp_path / 'answers.jsonl', *answers), data)
    assert sheet.counts['original'].tolist() == [[300, 300, 300], [45, 45, 45]] and not sheet.problems.lines()
    sheet = score_answers(write_lines(tmp_path / 'b.jsonl', dict(sent_id=0, segmentation=rows(0, 10))), data)
    assert 'which several sentences of the data have: add image and sentence' in sheet.problems.lines()[0]


def test_an_id_that_contradicts_its_sentence(tmp_path):
    """Ids of lines count them: here the first line was moved to the end, and then predictions are for other data."""
    masks = {text: rows(0, last) for last, text in enumerate(('a man', 'a dog', 'two cats'), 5)}
    truths = [truth_line('a.jpg', masks[text], text) for text in ('a dog', 'two cats', 'a man')]
    answers = [dict(sent_id=i, image='a.jpg', sentence=text, segmentation=masks[text]) for i, text in enumerate(masks)]
    sheet, data = score_lines(tmp_path, truths, answers)
    assert not sheet.problems.lines()
    assert [intersection == union for intersection, union, *_ in sheet.counts['original'].tolist()] == [True] * 3
    # The same words, written in another way, are no contradiction.
    answers = [
        dict(sent_id=0, sentence='A dog.', segmentation=masks['a dog']),
        dict(sent_id=1, sentence='the red car', segmentation=masks['a dog']),
    ]
    sheet = score_answers(write_lines(tmp_path / 'b.jsonl', *answers), data)
    assert sheet.problems.counts == dict(unknown=1, missing=2)
    assert "sent_id 1, which is another sentence in the data than 'the red car'" in sheet.problems.lines()[0]
    # Predictions for other data: another picture, and a sentence that shares only "a", or none.
    answers = [
        dict(sent_id=0, image='b.jpg', sentence='a boat', segmentation=masks['a dog']),
        dict(sent_id=1, image='b.jpg', segmentation=masks['a dog']),
        dict(sent_id=2, image='b.jpg', sentence='A man!', segmentation=masks['a man']),
    ]
    sheet = score_answers(write_lines(tmp_path / 'c.jsonl', *answers), data)
    assert sheet.problems.counts == dict(unknown=2, missing=2)
    sheet = score_answers(write_lines(tmp_path / 'd.jsonl', answers[1]), data)
    assert sheet.problems.lines()[0].endswith("sent_id 1, which is about another image than 'b.jpg'")


def test_masks_of_lines_lie_beside_the_file_or_in_a_named_folder(tmp_path, monkeypatch):
    for folder, last in (('data', 10), ('data/other', 5), ('elsewhere', 20)):
        (tmp_path / folder / 'masks').mkdir(parents=True)
        mask = np.zeros(SIZE, np.uint8)
        mask[:last] = 255
        cv2.imwrite(str(tmp_path / folder / 'masks' / 'a.png'), mask)
    line = dict(image='a.jpg', height=SIZE[0], width=SIZE[1], sentence='a man', mask='masks/a.png')
    path = write_lines(tmp_path / 'data' / 'lines.jsonl', line)
    monkeypatch.chdir(tmp_path / 'elsewhere')
    for masks, last in ((None, 10), (str(tmp_path / 'data' / 'other'), 5)):
        assert Truths(open_data(path, masks=masks)).of_row(0).original.sum() == 30 * last


def test_the_picture_of_another_folder_is_not_taken(tmp_path):
    truths = [truth_line('y/0001.jpg', rows(0, 10), 'a man')]
    answers = [
        dict(image=f'{folder}/0001.jpg', sentence='a man', segmentation=rows(0, last))
        for folder, last in (('x', 3), ('/data/y', 10))
    ]
    sheet, _ = score_lines(tmp_path, truths, answers)
    assert sheet.problems.counts == dict(unknown=1) and sheet.counts['original'].tolist() == [[300, 300, 300]]


def test_an_equal_second_answer_is_no_duplicate(tmp_path):
    """A model that answers by picture and sentence repeats itself where two references have the same sentence."""
    answer = dict(image='b.jpg', sentence='the man', segmentation=rows(10, 20))
    sheet, _ = score_lines(tmp_path, TRUTHS, [answer, answer])
    assert sheet.problems.counts == dict(missing=2)


@pytest.mark.parametrize(
    'line, kind',
    [
        (dict(image=7, sentence='the man', segmentation=None), None),
        (dict(image=['b.jpg'], sentence='the man', segmentation=None), 'incomplete'),
        (dict(sent_id=0, score=10**400, segmentation=None), None),
        (dict(sent_id=0, score='high', segmentation=None), None),
        (dict(sent_id='x' * 10**6 + chr(27) + '\nproblem: fake', segmentation=None), 'unknown'),
        (dict(image='\ud800.jpg', sentence='the man', segmentation=None), 'unknown'),
        (dict(sent_id=0, segmentation=[[0, 0, 30, 20] * 60000]), 'damaged'),
        (dict(sent_id=0, segmentation=dict(size=[65000, 65000], counts='0')), 'size'),
        (dict(sent_id=0, iou=0.5), 'incomplete'),
    ],
)
def test_strange_lines_are_counted_in_one_short_line(tmp_path, line, kind):
    data = Truths(open_data(write_lines(tmp_path / 'truth.jsonl', *TRUTHS)))
    sheet = score_answers(write_lines(tmp_path / 'answers.jsonl', line), data, resize='nearest')
    assert set(sheet.problems.counts) == {'missing'} | ({kind} if kind else set())
    for text in sheet.problems.lines():
        assert len(text) < 500 and text.isprintable() and text.encode()


def test_one_answer_serves_all_equal_questions(tmp_path):
    """A model that is asked by picture and sentence cannot tell two references with the same sentence apart."""
    truths = [truth_line('a.jpg', rows(0, 10), 'a man'), truth_line('a.jpg', rows(5, 20), 'a man')]
    sheet, _ = score_lines(tmp_path, truths, [dict(image='a.jpg', sentence='a man', segmentation=rows(0, 10))])
    assert sheet.counts['original'].tolist() == [[300, 300, 300], [150, 300, 450]]
    assert not sheet.problems.lines()


def test_pixels_that_do_not_count_are_left_out(tmp_path):
    """ReasonSeg: rows 0 to 4 are the target, rows 5 to 9 do not count; the prediction is rows 0 to 11."""
    text = dict(text=['what flies?'], is_sentence=True)
    shapes = [
        dict(label=label, points=[[-1, first], [30, first], [30, last], [-1, last]])
        for label, first, last in (('target', 0, 4), ('ignore', 5, 9))
    ]
    (tmp_path / 'val').mkdir()
    cv2.imwrite(str(tmp_path / 'val' / 'a.jpg'), np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / 'val' / 'a.json').write_text(json.dumps(dict(text, shapes=shapes)))
    truths = Truths(ReasonSegDataset(str(tmp_path), split='val', test_mode=True, pipeline=[]))
    answer = dict(sent_id=truths.info(0)['sent_id'], segmentation=rows(0, 12))
    sheet = score_answers(write_lines(tmp_path / 'answers.jsonl', answer), truths)
    target = truths.of_row(0).original
    assert target[:5].all() and not target[10:].any()
    intersection, prediction, truth = sheet.counts['original'][0].tolist()
    assert (intersection, truth) == (150, 150) and prediction == 150 + 2 * 30
    # A pixel becomes 24 x 16.
    assert sheet.counts['summed_480'][0].tolist() == [150 * 24 * 16, 210 * 24 * 16, 150 * 24 * 16]


def test_a_score_is_from_0_to_1(tmp_path):
    truths = [truth_line('a.jpg', rows(0, 10), *'abcd')]
    scores = (0, 1, -0.1, 1.1)
    answers = [dict(sent_id=i, segmentation=rows(0, 5), score=score) for i, score in enumerate(scores)]
    sheet, _ = score_lines(tmp_path, truths, answers)
    assert np.array_equal(sheet.confidence, [0, 1, np.nan, np.nan], equal_nan=True)
    assert make_report(sheet, {}, rounds=9).calibration['an object'].sentences == 2


def test_a_name_of_several_pictures_names_none(tmp_path):
    truths = [truth_line('x/a.jpg', rows(0, 1), 'a man'), truth_line('y/a.jpg', rows(0, 2), 'a man')]
    sheet, _ = score_lines(
        tmp_path,
        truths,
        [dict(image=name, sentence='a man', segmentation=rows(0, 1)) for name in ('a.jpg', 'x/a.jpg', 'y/a.jpg')],
    )
    assert sheet.problems.counts == dict(unknown=1)
    assert sheet.counts['original'].tolist() == [[30, 30, 30], [30, 30, 60]]
