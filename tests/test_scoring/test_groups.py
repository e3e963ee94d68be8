"""Groups of sentences."""

import json

import numpy as np
import pytest
from scored_files import rows, score_lines, truth_line

from dit_sam.datasets.instances import Instances
from dit_sam.scoring import RULES, groupings, make_report
from dit_sam.scoring.groups import by_length, by_words


def test_bounds_of_lengths():
    assert [by_length('word ' * number) for number in (1, 2, 3, 5, 7, 10, 20, 21, 99)] == [
        ['1 to 2 words'],
        ['1 to 2 words'],
        ['3 words'],
        ['4 to 5 words'],
        ['6 to 7 words'],
        ['8 to 10 words'],
        ['11 to 20 words'],
        ['21 or more words'],
        ['21 or more words'],
    ]


@pytest.mark.parametrize(
    'sentence, kinds',
    [
        ('man', ['name only']),
        ('Left man', ['place']),
        ('the RED umbrella', ['attribute']),
        ('girl next to the tall tree', ['attribute', 'relation']),
        ('bottom-left white cup behind the man', ['place', 'attribute', 'relation']),
    ],
)
def test_words_of_a_sentence(sentence, kinds):
    assert by_words(sentence) == kinds


@pytest.fixture
def instances(tmp_path) -> Instances:
    """Picture 1 has three cats, one of them part of a crowd, and a dog; picture 2 has a dog."""
    objects = [(1, 17, 0), (1, 17, 0), (1, 17, 1), (1, 18, 0), (2, 18, 0)]
    content = dict(
        images=[],
        annotations=[
            dict(id=i, image_id=image, category_id=category, iscrowd=crowd, segmentation=[])
            for i, (image, category, crowd) in enumerate(objects)
        ],
        categories=[dict(id=17, name='cat'), dict(id=18, name='dog')],
    )
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    return Instances(str(tmp_path / 'instances.json'))


def test_groups_of_a_report(tmp_path, instances):
    truths = [
        truth_line('1.jpg', rows(0, 10), 'the cat', category_id=17, image_id=1, kind='name'),
        truth_line('1.jpg', rows(0, 5), 'the dog on the left', category_id=18, image_id=1, kind='place'),
        truth_line('2.jpg', rows(0, 1), 'dog', category_id=18, image_id=2),
        truth_line('2.jpg', None, 'a unicorn', image_id=2),
    ]
    answers = [dict(sent_id=i, segmentation=mask) for i, mask in enumerate((rows(0, 5), rows(0, 5), None, None))]
    sheet, found = score_lines(tmp_path, truths, answers)
    report = make_report(sheet, groupings(sheet, found, instances), rounds=20)
    mean = {
        title: {name: group.scores['mIoU'] for name, group in groups.items()} for title, groups in report.groups.items()
    }
    assert mean['category'] == {'0': 100, 'cat': 50, 'dog': 50}
    assert mean['kind'] == {'name': 50, 'place': 100}
    # 10, 5 and 1 of 20 rows.
    assert mean['size'] == {'no object': 100, '5 to 10 %': 0, '25 to 50 %': 100, '50 to 100 %': 50}
    assert mean['words'] == {'name only': 50, 'place': 100, 'relation': 100}
    assert {title: {name: group.number for name, group in groups.items()} for title, groups in report.groups.items()}[
        'length'
    ] == {'1 to 2 words': 3, '4 to 5 words': 1}
    # Among the other cats and dogs of the pictures, without the one in a crowd.
    assert mean['distractors'] == {'0': 50, '1': 50}
    # Of the first sentence 76 and 66 pixels are at an edge; shared are row 0 and two pixels of each of rows 1 to 4.
    half = pytest.approx(100 * 38 / (76 + 66 - 38))
    boundary = {
        title: {name: group.scores['boundary IoU'] for name, group in groups.items()}
        for title, groups in report.groups.items()
    }
    assert boundary['kind'] == {'name': half, 'place': 100}
    # Nothing for nothing is right.
    assert boundary['size'] == {'no object': 100, '5 to 10 %': 0, '25 to 50 %': 100, '50 to 100 %': half}
    for title, groups in report.groups.items():
        assert boundary[title] == {
            name: pytest.approx(group.intervals['boundary IoU'].value) for name, group in groups.items()
        }
    total = report.rules['original']
    assert np.isclose(total['mIoU'], 62.5) and set(report.rules) == set(RULES)
