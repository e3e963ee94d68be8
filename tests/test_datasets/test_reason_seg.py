"""ReasonSeg: a small set in the layout of its release, drawn by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from further_sets import PIPELINE, box, corners, items, scores, write_image

from dit_sam.datasets import ReasonSegDataset, ReferringDataset
from dit_sam.datasets.transforms import SamplePrompts
from dit_sam.errors import InputError


@pytest.fixture
def write_reason(tmp_path) -> Callable:
    """`write_reason(edit)` writes ReasonSeg with one annotation after `edit(annotation)`.

    The target is cut by a smaller region to ignore, in which there is a smaller target.
    """

    def write(edit: Callable = lambda annotation: None, encoding: str = 'utf-8') -> str:
        shapes = [
            dict(label='target', labels=['target'], shape_type='polygon', points=corners(2, 2, 6, 6)),
            dict(label='ignore', labels=['ignore'], shape_type='polygon', points=corners(0, 0, 10, 10)),
            dict(label='target', labels=['target'], shape_type='polygon', points=corners(0, 0, 30.9, 20)),
            dict(label='flag', labels=['flag'], shape_type='polygon', points=corners(40, 30, 50, 39)),
        ]
        annotation = dict(text=['what to drink at the café', 'a drink'], is_sentence=True, shapes=shapes)
        edit(annotation)
        write_image(tmp_path / 'val' / '123_ab_o.jpg')
        (tmp_path / 'val' / '123_ab_o.json').write_text(json.dumps(annotation, ensure_ascii=False), encoding=encoding)
        return str(tmp_path)

    return write


def test_reason_seg_and_the_pixels_that_do_not_count(write_reason, tmp_path):
    root = write_reason()
    dataset = ReasonSegDataset(root, test_mode=True, pipeline=PIPELINE)
    (item,) = items(dataset)
    assert (item['img_id'], item['ann_id'], item['kind'], item['text']) == (
        *('123_ab_o', '123_ab_o', 'long', 'what to drink at the café'),
    )
    inner, ignored = box(2, 2, 6, 6), box(0, 0, 10, 10) - box(2, 2, 6, 6)
    target = box(0, 0, 30, 20) - ignored
    assert (item['mask'] == target).all()
    truth = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    assert (truth == target + 255 * ignored).all() and inner.any()
    prompted = SamplePrompts(box_prob=1, noise=0).transform(dict(img=truth, gt_seg_map=truth * (inner + ignored)))
    assert prompted['box'].tolist() == [2, 2, 7, 7]
    # A row below is predicted, and of the ignored pixels all or none.
    for extra in (ignored, 0 * ignored):
        for protocol in ('original', 'lavt480', 'dit'):
            result = scores(dataset, lambda item, extra=extra: target + extra + box(0, 21, 30, 21), protocol=protocol)
            assert result['mIoU'] == pytest.approx(target.sum() / (target.sum() + 31) * 100)
    dataset.table.save(tmp_path / 'prepared.safetensors')
    (prepared,) = items(
        ReferringDataset('prepared.safetensors', root, data_prefix=dict(img_path='val'), test_mode=True)
    )
    assert prepared['ignored'] == item['ignored']
    np.random.seed(0)
    training = ReasonSegDataset(root)
    assert {training.get_data_info(0)['text'] for _ in range(20)} == {'what to drink at the café', 'a drink'}


def test_reason_seg_in_another_encoding_and_without_ignored_pixels(write_reason):
    def edit(annotation):
        del annotation['shapes'][1]
        annotation['is_sentence'] = False

    (item,) = items(ReasonSegDataset(write_reason(edit, 'cp1252'), test_mode=True))
    assert (item['kind'], item['text'], 'ignored' in item) == ('short', 'what to drink at the café', False)
    assert (item['mask'] == box(0, 0, 30, 20)).all()


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda annotation: annotation.pop('text'), 'has no key "text"'),
        (lambda annotation: annotation['shapes'][1].pop('label'), 'shape 1 has no key "label"'),
        (lambda annotation: annotation['shapes'][0].update(points=[]), r'has the polygon \[\]: a list of points'),
        (lambda annotation: annotation['shapes'][0].update(points=[[1, float('nan')]]), r'the point \[1, nan\]'),
        (
            lambda annotation: annotation['shapes'][0].update(points=[[1, 1e9]]),
            'has a polygon far outside of its image',
        ),
        (lambda annotation: annotation.update(text=[' ']), 'sentence 0 is blank'),
        (lambda annotation: annotation.update(text=[]), 'no sentence'),
    ],
)
def test_bad_reason_seg_is_named(write_reason, edit, message):
    with pytest.raises(InputError, match=rf'123_ab_o\.json.*{message}'):
        ReasonSegDataset(write_reason(edit))


def test_a_reason_seg_without_annotation_or_images_is_named(write_reason):
    root = write_reason()
    write_image(Path(root, 'val', 'alone.jpg'))
    with pytest.raises(InputError, match=r'alone\.json is missing'):
        ReasonSegDataset(root)
    Path(root, 'val', '123_ab_o.jpg').write_bytes(b'x')
    with pytest.raises(InputError, match=r'123_ab_o\.json names the image .*123_ab_o\.jpg, which cannot be read'):
        ReasonSegDataset(root)
    with pytest.raises(FileNotFoundError, match='No image of ReasonSeg in '):
        ReasonSegDataset(root, 'test')
