"""One file per answer, for any data sets and any number of processes."""

import random

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dit_sam.errors import InputError
from dit_sam.evaluation import MaskWriter
from dit_sam.evaluation.mask_writer import distinct_names


def answer(img_path: str, pixel: int, **metainfo) -> dict:
    """A prediction of 2 x 4 pixels, of which one is set."""
    mask = torch.zeros(8, dtype=torch.int64)
    mask[pixel] = 1
    return dict(img_path=img_path, pred_sem_seg=dict(data=mask.view(1, 2, 4)), **metainfo)


def written(folder, *answers: dict) -> dict:
    """The files that were written, with the pixel that is set in each."""
    writer = MaskWriter(str(folder))
    for one in answers:
        writer.process({}, [one])
    assert writer.evaluate(len(answers)) == {}
    masks = {path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in folder.iterdir()}
    assert all(mask.shape == (2, 4) and set(np.unique(mask)) == {0, 255} for mask in masks.values())
    return {name: int(mask.argmax()) for name, mask in masks.items()}


def test_names_are_image_and_sentence(tmp_path):
    assert written(
        tmp_path / 'new', answer('a/one.jpg', 0, sent_id=7), answer('a/two.b.jpg', 1, sent_id=8), answer('a/one.jpg', 2)
    ) == {'one_7.png': 0, 'two.b_8.png': 1, 'one.png': 2}


def test_every_answer_has_a_file_if_joined_sets_share_names(tmp_path):
    """In any order of the processes. The last name equals one that numbering would produce."""
    answers = [
        answer('cam1/0001.png', 0, sent_id=0, sample_idx=0),
        answer('cam1/0001.png', 1, sent_id=0, sample_idx=1),
        answer('cam2/0001.png', 2, sent_id=0, sample_idx=0),
        answer('cam1/0001_0.png', 3, sent_id=2),
    ]
    for order in range(4):
        random.Random(order).shuffle(answers)
        assert written(tmp_path / str(order), *answers) == {
            '0001_0.png': 0,
            '0001_0_3.png': 1,
            '0001_0_4.png': 2,
            '0001_0_2.png': 3,
        }


@pytest.mark.parametrize(
    'prediction, found',
    [({}, 'no mask'), (dict(pred_sem_seg=dict(data=torch.tensor([[[0, 1, 149]]]))), 'a map of several classes')],
)
def test_predictions_that_are_no_masks_of_one_object_are_refused(tmp_path, prediction, found):
    with pytest.raises(InputError, match=f'a/one.jpg has {found} as its prediction'):
        MaskWriter(str(tmp_path)).process({}, [dict(img_path='a/one.jpg', **prediction)])


def test_items_with_missing_or_odd_ids_have_files(tmp_path):
    found = written(
        tmp_path,
        answer('a.png', 0, text='x'),
        answer('a.png', 1, text='y'),
        answer('A.png', 2),
        answer('a.png', 3, sent_id='../../b/c'),
        answer('é' * 125 + '.png', 4, sent_id='7' * 250),
    )
    assert [found.pop(name) for name in ('A.png', 'a_2.png', 'a_3.png', 'a_-b-c.png')] == [2, 0, 1, 3]
    assert list(found.values()) == [4]


def test_masks_of_one_sample_are_numbered_by_sentence(tmp_path):
    """mmdet's samples have several sentences and no index in their data set."""
    answers = [answer('a.png', 0, text='b'), answer('a.png', 1, text='a', sample_idx=0)]
    assert written(tmp_path, *answers) == {'a.png': 1, 'a_2.png': 0}


@given(st.lists(st.sampled_from(['a', 'A', 'a_2', 'a_2_2', 'a_3', 'b', 'b_1'])))
def test_names_differ_on_every_file_system(names):
    found = distinct_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    kept = [one for one, name in zip(found, names) if one == name]
    assert {name.casefold() for name in kept} == {name.casefold() for name in names}
