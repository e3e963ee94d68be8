"""RefCOCO-M: a small set in the layout of its release, drawn by hand."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from further_sets import box, columns, items

from dit_sam.datasets import RefCOCOMDataset
from dit_sam.errors import InputError


@pytest.fixture
def write_parquet(tmp_path) -> Callable:
    """`write_parquet(edit)` writes RefCOCO-M, an image in each of two files, after `edit(rows)`."""
    pyarrow = pytest.importorskip('pyarrow', reason='pyarrow is not installed: pip install -e .[test]')
    parquet = pytest.importorskip('pyarrow.parquet')

    def sample(number: int, image_id: int, mask: np.ndarray, *sentences: str) -> dict:
        from pycocotools import mask as coco_mask

        rle = coco_mask.encode(np.asfortranarray(mask))
        return dict(
            id=number,
            image_id=image_id,
            category='person',
            supercategory='person',
            label='person',
            sentences=list(sentences),
            bbox=[0.0, 0.0, 1.0, 1.0],
            mask=dict(counts=rle['counts'].decode(), size=list(mask.shape)),
        )

    def write(edit: Callable = lambda rows: None) -> str:
        rows = [
            [sample(31, 1, box(2, 3, 9, 30), 'left man', 'the man'), sample(32, 1, box(20, 3, 29, 30), 'right one')],
            [sample(33, 2, box(0, 0, 5, 5)[:30, :50], 'child')],
        ]
        rows = [
            dict(
                image=dict(bytes=b'a picture', path=None),
                image_id=number,
                file_name=f'COCO_train2014_{number:012d}.jpg',
                samples=samples,
            )
            for number, samples in enumerate(rows, 1)
        ]
        edit(rows)
        (tmp_path / 'refcoco-m' / 'data').mkdir(parents=True)
        for number, row in enumerate(rows):
            path = tmp_path / 'refcoco-m' / 'data' / f'validation-{number:05d}-of-00002.parquet'
            parquet.write_table(pyarrow.Table.from_pylist([row]), path)
        return str(tmp_path)

    return write


def test_refcoco_m(write_parquet):
    found = items(RefCOCOMDataset(write_parquet(), test_mode=True))
    assert columns(found, 'ann_id', 'sent_id', 'category_id', 'img_id', 'text', 'height') == [
        (31, 0, 'person', 1, 'left man', 40),
        (31, 1, 'person', 1, 'the man', 40),
        (32, 2, 'person', 1, 'right one', 40),
        (33, 3, 'person', 2, 'child', 30),
    ]
    assert (found[1]['mask'] == box(2, 3, 9, 30)).all() and (found[3]['mask'] == box(0, 0, 5, 5)[:30, :50]).all()
    assert found[0]['img_path'].endswith('train2014/COCO_train2014_000000000001.jpg')


@pytest.mark.parametrize(
    'edit, message',
    [
        (
            lambda rows: rows[0].pop('samples'),
            r'00000-of-00002\.parquet is not of RefCOCO-M: it has no column "samples"',
        ),
        (lambda rows: rows[1]['samples'][0].pop('category'), r'00001-of-00002\.parquet: row 0 has no key "category"'),
        (lambda rows: rows[0]['samples'][1]['mask'].update(size=[5, 5]), 'object 32 has an RLE of size'),
        (lambda rows: rows[0]['samples'][0]['mask'].update(size=[5]), 'object 31 has the size'),
        (lambda rows: rows[0]['samples'][1].update(sentences=[' ']), 'object 32, sentence 2 is blank'),
    ],
)
def test_bad_parquet_is_named(write_parquet, edit, message):
    with pytest.raises(InputError, match=message):
        RefCOCOMDataset(write_parquet(edit))


def test_damaged_and_missing_parquet_is_named(write_parquet):
    path = Path(write_parquet(), 'refcoco-m', 'data', 'validation-00000-of-00002.parquet')
    path.write_bytes(b'PAR1')
    with pytest.raises(InputError, match=r'00000-of-00002\.parquet is damaged or not Parquet'):
        RefCOCOMDataset(ann_file=str(path))
    with pytest.raises(FileNotFoundError, match='No Parquet file of RefCOCO-M in nowhere'):
        RefCOCOMDataset(ann_file='nowhere')


def test_without_pyarrow_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(InputError, match=r'needs pyarrow: pip install "dit-sam\[parquet\]"'):
        RefCOCOMDataset(ann_file='nowhere')
