"""RefCOCOm: a small set in the layout of its release, drawn by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from further_sets import box, columns, items, write_image

from dit_sam.datasets import RefCOCOPartsDataset
from dit_sam.errors import InputError


def parts_item(segment_id: int, name: str, *sentences: str) -> dict:
    return dict(
        bbox=[0, 0, 1, 1],
        cat=0,
        segment_id=segment_id,
        img_name=name,
        sentences=[
            dict(idx=number, sent_id=segment_id * 10 + number, sent=text) for number, text in enumerate(sentences)
        ],
        sentences_num=len(sentences),
    )


@pytest.fixture
def write_parts(tmp_path) -> Callable:
    """`write_parts(edit)` writes RefCOCOm with an object, 7, and a part of it, 8, after `edit(root)`."""

    def write(edit: Callable = lambda root: None) -> str:
        name = 'COCO_train2014_000000000009.jpg'
        part, whole = parts_item(8, name, 'left leg', 'the leg'), parts_item(7, name, 'chair')
        (tmp_path / 'annotations').mkdir()
        (tmp_path / 'masks').mkdir()
        (tmp_path / 'annotations' / 'val_part_only.json').write_text(json.dumps([part]))
        (tmp_path / 'annotations' / 'val_object_part.json').write_text(json.dumps([whole, part]))
        cv2.imwrite(str(tmp_path / 'masks' / '7.png'), box(5, 5, 30, 30) * 255)
        cv2.imwrite(str(tmp_path / 'masks' / '8.png'), box(5, 20, 9, 30) * 255)
        write_image(tmp_path / 'images' / name)
        edit(tmp_path)
        return str(tmp_path)

    return write


def test_refcoco_parts(write_parts):
    root = write_parts()
    found = items(RefCOCOPartsDataset(root, 'annotations/val_object_part.json', test_mode=True))
    assert columns(found, 'ann_id', 'ref_id', 'sent_id', 'kind', 'text', 'img_id') == [
        (7, 7, 70, 'object', 'chair', '9'),
        (8, 8, 80, 'part', 'left leg', '9'),
        (8, 8, 81, 'part', 'the leg', '9'),
    ]
    assert (found[0]['mask'] == box(5, 5, 30, 30)).all() and (found[2]['mask'] == box(5, 20, 9, 30)).all()
    assert columns(items(RefCOCOPartsDataset(root, test_mode=True)), 'kind') == [('part',)] * 2
    Path(root, 'annotations', 'val_part_only.json').unlink()
    assert 'kind' not in items(RefCOCOPartsDataset(root, 'annotations/val_object_part.json'))[0]


@pytest.mark.parametrize(
    'edit, message',
    [
        (
            lambda root: (root / 'masks' / '8.png').unlink(),
            r'val_part_only\.json: segment 8 has no mask: .*8\.png is missing',
        ),
        (
            lambda root: (root / 'masks' / '8.png').write_bytes(b'x'),
            r'segment 8 has the mask .*8\.png, which cannot be read',
        ),
        (
            lambda root: cv2.imwrite(str(root / 'masks' / '8.png'), box(0, 0, 1, 1)),
            'with the highest value 1: 255 inside is needed',
        ),
        (lambda root: (root / 'annotations' / 'val_part_only.json').write_text('{'), 'is not JSON'),
        (lambda root: (root / 'annotations' / 'val_part_only.json').write_text('{}'), 'expected a list, got dict'),
        (
            lambda root: (root / 'annotations' / 'val_part_only.json').write_text('[{"segment_id": 8}]'),
            r'val_part_only\.json: item 0 has no key "img_name"',
        ),
        (
            lambda root: (root / 'annotations' / 'val_part_only.json').write_text(json.dumps([parts_item(8, 'a.jpg')])),
            r'val_part_only\.json: segment 8, no sentence',
        ),
    ],
)
def test_bad_refcoco_parts_are_named(write_parts, edit, message):
    with pytest.raises(InputError, match=message):
        RefCOCOPartsDataset(write_parts(edit))
