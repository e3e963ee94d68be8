"""COCO files with sentences as lines for ReferringJSONDataset."""

import json
from pathlib import Path

import numpy as np
import pytest
from processes import call_tool

from dit_sam.datasets.masks import decode_segmentation

CHECK = 'dataset_converters/check.py'
IMAGE = 'train2014/COCO_train2014_000000000001.jpg'  # 40 x 60, as tests/conftest.py writes it


COCO = dict(
    images=[
        dict(id='x', file_name=IMAGE, height=40, width=60),
        dict(id=2, file_name='train2014/COCO_train2014_000000000002.jpg', height=30, width=50),
    ],
    categories=[dict(id=7, name='pallet')],
    annotations=[
        dict(id=1, image_id='x', category_id=7, segmentation=[[1, 1, 9, 1, 9, 9]], attributes=dict(text='The left ')),
        dict(id=2, image_id=2, category_id=7, segmentation=[[1, 1, 9, 1, 9, 9]], attributes=dict(text='The left')),
        dict(id=3, image_id='x', category_id=7, segmentation=[[20, 1, 29, 1, 29, 9]], attributes=dict(text='The left')),
        dict(
            id=4,
            image_id='x',
            category_id=7,
            segmentation=[dict(size=[40, 60], counts=[0, 9, 2391])],
            attributes=dict(text='The left'),
        ),
        dict(id=5, image_id=2, category_id=7, segmentation=[[1, 1, 9, 1, 9, 9]], attributes=dict(text=['a', 'b'])),
        dict(id=6, image_id=2, category_id=7, segmentation=[[1, 1, 9, 1, 9, 9]], attributes=dict(occluded=False)),
    ],
)


def test_a_coco_file_with_sentences_becomes_lines(write_refcoco, capsys):
    """Pieces with one sentence are one object: 45 + 45 pixels of the polygons, and 9 of the RLE, one of them common."""
    root = Path(write_refcoco())
    coco, out = root / 'coco.json', root / 'train.jsonl'
    coco.write_text(json.dumps(COCO, indent=1))
    assert call_tool(CHECK, coco) == 1
    assert capsys.readouterr().out.count('begins a longer JSON value, such as a COCO file') == 1
    coco.write_text(json.dumps(COCO))
    assert call_tool(CHECK, coco) == 1
    assert capsys.readouterr().out.count('begins a longer JSON value, such as a COCO file') == 1
    arguments = ('dataset_converters/coco.py', coco, '--out', out, '--key')
    assert call_tool(*arguments, 'attributes.text') == 0
    assert f'{out}: 3 lines from 5 of 6 annotations.' in capsys.readouterr().out
    assert call_tool(CHECK, out) == 0
    assert 'warning' not in capsys.readouterr().out
    first, second, third = map(json.loads, out.read_text().splitlines())
    assert (first['sentences'], first['kind'], first['height'], first['width']) == (['The left'], 'pallet', 40, 60)
    parts = [decode_segmentation(COCO['annotations'][i]['segmentation'], 40, 60) for i in (0, 2, 3)]
    assert np.array_equal(decode_segmentation(first['segmentation'], 40, 60), np.maximum.reduce(parts))
    assert second['segmentation'] == third['segmentation'] == [[1, 1, 9, 1, 9, 9]] and third['sentences'] == ['a', 'b']
    assert call_tool(*arguments, 'attributes.text') == 1
    assert f'{out} exists: name a new file, or remove it' in capsys.readouterr().err
    out.unlink()
    assert call_tool(*arguments, 'caption') == 1
    assert f'{coco}: no annotation has a sentence as caption: name its place by --key' in capsys.readouterr().err
    assert call_tool(*arguments, 'category') == 0
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(image_id=9), 'coco.json: annotation 0 is of image 9, which the file does not have'),
        (dict(image_id=[1]), 'coco.json: annotation 0: "image_id" must be a number or text, got [1]'),
        (dict(segmentation=None), 'coco.json: annotation 0: "segmentation" must be a list or an object, got None'),
        (dict(segmentation=[]), "annotation 1 of image 'x', about 'The left', has an empty segmentation"),
        (dict(attributes=dict(text='\ud800')), "annotation 1 of image 'x', about '\\ud800', is not JSON"),
        (dict(category_id=[1]), ''),
    ],
)
def test_a_malformed_annotation_is_named(tmp_path, capsys, change, message):
    coco, out = tmp_path / 'coco.json', tmp_path / 'out.jsonl'
    coco.write_text(json.dumps(dict(COCO, annotations=[dict(COCO['annotations'][0], **change)])))
    status = call_tool('dataset_converters/coco.py', coco, '--out', out, '--key', 'attributes.text')
    assert status == bool(message) == (not out.exists()) and message in capsys.readouterr().err


@pytest.mark.parametrize(
    'content, message',
    [
        (b'[1]', 'coco.json: expected a dict, got list'),
        (b'{"images": 3}', 'coco.json: "images" must be a list, got 3'),
        (b'{"images": []', 'coco.json is not JSON: '),
        (b'\xff', 'coco.json is not JSON: '),
        (json.dumps(dict(COCO, images=COCO['images'][:1] * 2)).encode(), "image 1 has the id 'x' of another image"),
        (json.dumps(dict(COCO, images=[dict(id=1)])).encode(), 'coco.json: image 0 has no key "file_name"'),
        (json.dumps(dict(COCO, annotations=[3])).encode(), 'coco.json: annotation 0: expected a dict, got int'),
        (None, 'coco.json not found: check the path'),
    ],
)
def test_what_is_no_coco_file_is_refused(tmp_path, capsys, content, message):
    coco, out = tmp_path / 'coco.json', tmp_path / 'out.jsonl'
    if content is not None:
        coco.write_bytes(content)
    assert call_tool('dataset_converters/coco.py', coco, '--out', out) == 1
    assert message in capsys.readouterr().err and not out.exists()
