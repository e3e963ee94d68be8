"""Readers of further test sets: each reads a small set in the layout of its release, drawn by hand."""

import json
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, METRICS
from processes import ROOT, call_tool

from dit_sam.datasets import (
    PhraseCutDataset,
    ReasonSegDataset,
    RefCOCODataset,
    RefCOCOMDataset,
    RefCOCOPartsDataset,
    ReferringDataset,
    RefZOMDataset,
    RRefCOCODataset,
)
from dit_sam.datasets.held_out import evaluation_images
from dit_sam.datasets.transforms import SamplePrompts, decode_segmentation
from dit_sam.errors import InputError

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
HEIGHT, WIDTH = 40, 60


def items(dataset) -> list[dict]:
    """All items, each with its decoded `mask`; every mask has the size of its image."""
    found = [dataset.get_data_info(index) for index in range(len(dataset))]
    for item in found:
        item['mask'] = decode_segmentation(item['segmentation'], item['height'], item['width'])
        assert item['segmentation']['size'] == [item['height'], item['width']] == list(item['mask'].shape)
        assert {'img_path', 'img_id', 'ref_id', 'ann_id', 'sent_id', 'category_id', 'text', 'no_target'} <= item.keys()
    return found


def columns(found: list[dict], *keys: str) -> list[tuple]:
    return [tuple(item[key] for key in keys) for item in found]


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A mask from a column and row to a column and row, the last two included."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : bottom + 1, left : right + 1] = 1
    return mask


def corners(left: int, top: int, right: int, bottom: int) -> list:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def scores(dataset, predict: Callable, **metric) -> dict:
    """The scores of `predict(item)`, the predicted mask of an item."""
    metric = METRICS.build(dict(type='ReferringIoU', **metric))
    for index, item in enumerate(items(dataset)):
        sample = dataset[index]['data_samples'].to_dict()
        prediction = predict(item).astype(np.uint8)
        metric.process(
            {}, [dict(sample, pred_sem_seg=dict(data=sample['gt_sem_seg']['data'].new_tensor(prediction)[None]))]
        )
    return metric.evaluate(len(dataset))


@pytest.fixture
def write_refs(write_refcoco) -> Callable:
    """`write_refs(folder, name, change, images)` writes RefCOCO's set, with further annotations, under other names."""

    def write(folder: str, name: str, change: Callable, images: str = 'train2014') -> str:
        def add(content, refs):
            # Of image 1, which has 11 (x 5-24, y 10-17): x 40-49, y 20-29.
            square = [[40, 20, 50, 20, 50, 30, 40, 30]]
            content['annotations'].append(dict(id=13, image_id=1, category_id=2, iscrowd=0, segmentation=square))
            refs[:] = change(refs)

        root = Path(write_refcoco(add))
        (root / 'refcoco').rename(root / folder)
        (root / folder / 'refs(unc).p').rename(root / folder / name)
        (root / 'train2014').rename(root / images)
        return str(root)

    return write


def zom(refs: list) -> list:
    """Of one object, of two, and of none; the last has ids of objects that do not count, and only a `raw` sentence."""
    one, many, zero, train = refs[:4]
    one.update(split='test', source='one')
    many.update(split='test', source='refcoco', ann_id=[11, 13], category_id=[1, 2])
    zero.update(split='test', source='zero', ann_id=[12])
    for sentence in zero['sentences']:
        del sentence['sent']
    train.update(split='train', source='one', ann_id=[21])
    del train['category_id']
    return [one, many, zero, train]


def robust(refs: list) -> list:
    """The first reference gets two negative sentences, the second one; RefCOCO's own sentences have no `exist`."""
    for ref, texts in zip(refs, (['a dog', 'no box'], ['a cat'])):
        for number, text in enumerate(texts):
            ref['sentences'].insert(
                0, dict(sent_id=900 + 10 * ref['ref_id'] + number, sent=text, raw=text, exist=False)
            )
    refs[0]['sentences'][-1]['exist'] = True
    return refs


def test_ref_zom(write_refs):
    root = write_refs('ref-zom', 'refs(final).p', zom, 'trainval2014')
    found = items(RefZOMDataset(root, test_mode=True))
    assert columns(found, 'ann_id', 'category_id', 'kind', 'no_target', 'text', 'img_id') == [
        ((11,), (1,), 'one', False, 'left box', 1),
        ((11,), (1,), 'one', False, 'the box on the left', 1),
        ((11,), (1,), 'one', False, 'wide one', 1),
        ((11, 13), (1, 2), 'many', False, 'box near the bright wall', 1),
        ((), (), 'zero', True, 'narrow column', 1),
        ((), (), 'zero', True, 'stripe', 1),
    ]
    assert (found[0]['mask'] == box(5, 10, 24, 17)).all()
    assert (found[3]['mask'] == box(5, 10, 24, 17) + box(40, 20, 49, 29)).all()
    assert not found[4]['mask'].any() and Path(found[0]['img_path']).is_file()
    (train,) = items(RefZOMDataset(root, split='train'))
    assert (train['ann_id'], train['category_id']) == ((21,), ())


def test_r_refcoco_and_its_scores(write_refs):
    """Prediction: the box of annotation 11, wherever it is the target, and for "a cat" and "no box"; else nothing.

    The first reference has 160 pixels in each of 3 positive sentences and, for one of 2 negative ones, 160 predicted:
    480 / 640. The second: 160 / 320, and no negative one right. The third, without negative sentences: 0.
    """
    root = write_refs('rrefcoco', 'refs(unc).p', robust)
    dataset = RRefCOCODataset(root, test_mode=True, pipeline=PIPELINE)
    found = items(dataset)
    assert columns(found, 'ref_id', 'ann_id', 'category_id', 'kind', 'no_target', 'text')[2:7] == [
        (1, (11,), (1,), 'positive', False, 'wide one'),
        (1, (), (), 'negative', True, 'no box'),
        (1, (), (), 'negative', True, 'a dog'),
        (2, (11,), (1,), 'positive', False, 'box near the bright wall'),
        (2, (), (), 'negative', True, 'a cat'),
    ]
    assert all(item['mask'].any() != item['no_target'] for item in found)
    shown = ((11,), 'a cat', 'no box')
    mask = box(5, 10, 24, 17)
    result = scores(
        dataset,
        lambda item: mask * (item['ann_id'] in shown or item['text'] in shown),
        generalized=True,
        by_reference=True,
        group_by='kind',
    )
    assert result['rIoU'] == pytest.approx((480 / 640 + 160 / 320 + 0) / 3 * 100)
    assert result['mRR'] == pytest.approx((1 / 2 + 0) / 2 * 100)
    assert result['N-acc'] == pytest.approx(1 / 3 * 100)
    assert result['gIoU/positive'] == pytest.approx(4 / 6 * 100)
    with pytest.raises(InputError, match='item 0 has a sentence without a target .* which RRefCOCODataset reads'):
        RefCOCODataset(root, 'rrefcoco/instances.json', 'rrefcoco/refs(unc).p')


@pytest.mark.parametrize(
    'folder, name, change, kind',
    [('ref-zom', 'refs(final).p', zom, RefZOMDataset), ('rrefcoco', 'refs(unc).p', robust, RRefCOCODataset)],
)
def test_tools_tell_these_files_apart(write_refs, tmp_path, capsys, folder, name, change, kind):
    """The converter prepares the same items, and images of the files can be held out."""
    root = write_refs(folder, name, change)
    assert call_tool(str(ROOT / 'tools' / 'dataset_converters' / 'refcoco.py'), root, '--out', tmp_path / 'out') == 0
    for path in (tmp_path / 'out').iterdir():
        split = path.stem.split('_')[-1]
        original = kind(root, split=split, test_mode=True, data_prefix=dict(img_path='train2014/'))
        prepared = ReferringDataset(str(path), root, test_mode=True)
        assert [prepared.get_data_info(i) for i in range(len(prepared))] == [
            original.get_data_info(i) for i in range(len(original))
        ]
    assert evaluation_images([f'{root}/{folder}']) == {'ref-zom': {1}, 'rrefcoco': {2, 3}}[folder]


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
        result = scores(dataset, lambda item, extra=extra: target + extra + box(0, 21, 30, 21))
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


def task(number: int, image_id: int, phrase: str, polygons: list, kind: str = 'attribute', **more) -> dict:
    structure = dict(name='cup', attributes=['red'], relation_ids=[], relation_descriptions=[], type=kind)
    return (
        dict(
            task_id=f'{image_id}__{number}',
            image_id=image_id,
            ann_ids=[number],
            instance_boxes=[[0, 0, 1, 1]] * len(polygons),
            Polygons=polygons,
            phrase=phrase,
            phrase_structure=structure,
        )
        | more
    )


@pytest.fixture
def write_phrases(tmp_path) -> Callable:
    """`write_phrases(edit)` writes PhraseCut after `edit(images, tasks)`: image 5 is COCO's 77, image 77 is not."""

    def write(edit: Callable = lambda images, tasks: None) -> str:
        images = [
            dict(image_id=5, coco_id=77, flickr_id=None, width=WIDTH, height=HEIGHT, url='', split='test'),
            dict(image_id=77, coco_id=None, flickr_id=1, width=WIDTH, height=HEIGHT, url='', split='test'),
        ]
        tasks = [
            # Two instances, one in two pieces; a polygon of one point does not count, fractions are cut off.
            task(
                1,
                5,
                'red cups',
                [[corners(2, 2, 8, 6), corners(20.9, 2.2, 25, 6)], [corners(40, 10, 50, 20), [[0, 0]]]],
            ),
            task(2, 77, 'cup', [[corners(0, 0, 3, 3)]], 'name', ann_ids=[2, 3]),
        ]
        edit(images, tasks)
        (tmp_path / 'image_data_split.json').write_text(json.dumps(images))
        (tmp_path / 'refer_test.json').write_text(json.dumps(tasks))
        for image in images:
            write_image(tmp_path / 'images' / f'{image["image_id"]}.jpg')
        return str(tmp_path)

    return write


def test_phrasecut(write_phrases):
    found = items(PhraseCutDataset(write_phrases(), test_mode=True))
    assert columns(found, 'ref_id', 'sent_id', 'ann_id', 'category_id', 'img_id', 'kind', 'text') == [
        ('5__1', '5__1', (1,), 'cup', 5, 'attribute', 'red cups'),
        ('77__2', '77__2', (2, 3), 'cup', 77, 'name', 'cup'),
    ]
    assert (found[0]['mask'] == box(2, 2, 8, 6) + box(20, 2, 25, 6) + box(40, 10, 50, 20)).all()
    assert (found[1]['mask'] == box(0, 0, 3, 3)).all() and Path(found[0]['img_path']).is_file()


def test_images_of_phrasecut_are_held_out_by_their_number_in_coco(write_phrases, write_refcoco, tmp_path):
    """Image 5 is COCO's 77, which is in a val split. Image 77 of Visual Genome is another picture."""
    root = write_phrases()

    def rename(content, refs):
        for record in (*content['images'], *content['annotations'], *refs):
            for key in ('id', 'image_id'):
                record[key] = 77 if record.get(key) == 2 else record.get(key)

    write_refcoco(rename)
    kept = PhraseCutDataset(root, filter_cfg=dict(evaluation_images=['refcoco/refs(unc).p']))
    assert columns(items(kept), 'img_id') == [(77,)]
    kept.table.save(tmp_path / 'phrases.safetensors')
    assert evaluation_images([str(tmp_path / 'phrases.safetensors')]) == {77}


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


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda refs: refs[2].pop('source'), 'item 2 has no key "source"'),
        (lambda refs: refs[0].update(ann_id=[]), 'item 0 has no object, but its source is "one", not "zero"'),
        (lambda refs: refs[0].update(ann_id='x'), 'item 0: "ann_id" must be a number or a list of numbers'),
        (lambda refs: refs[1]['sentences'][0].update(sent=5), 'item 1, sentence 0: "sent" must be text, got 5'),
        (lambda refs: refs[1].update(ann_id=[11, 99]), r'no ann_id 99: .* \(reference 2 of .*refs\(final\)\.p'),
    ],
)
def test_bad_ref_zom_is_named(write_refs, edit, message):
    def change(refs):
        refs = zom(refs)
        edit(refs)
        return refs

    with pytest.raises(InputError, match=message):
        RefZOMDataset(write_refs('ref-zom', 'refs(final).p', change), data_prefix=dict(img_path='train2014/'))


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


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda images, tasks: images[1].pop('height'), r'image_data_split\.json: image 1 has no key "height"'),
        (
            lambda images, tasks: images[1].update(width=0),
            r'task 77__2 is of image 77, whose height and width are \(40, 0\)',
        ),
        (
            lambda images, tasks: images.pop(),
            r'task 77__2 is of image 77, which .*image_data_split\.json does not have',
        ),
        (lambda images, tasks: tasks[0].pop('Polygons'), r'refer_test\.json: task 0 has no key "Polygons"'),
        (
            lambda images, tasks: tasks[0].update(Polygons=[[[[1, 2], [3]]]]),
            r'task 5__1 has a polygon with the point \[3\]',
        ),
        (lambda images, tasks: tasks[0].update(Polygons=[5]), 'task 5__1 has an instance that is not a list'),
        (lambda images, tasks: tasks[0].update(phrase=' '), 'task 5__1, sentence 5__1 is blank'),
        (lambda images, tasks: tasks[0].update(ann_ids=[]), r'task 5__1 has the ann_ids \[\]: a list of numbers'),
    ],
)
def test_bad_phrasecut_is_named(write_phrases, edit, message):
    with pytest.raises(InputError, match=message):
        PhraseCutDataset(write_phrases(edit))


def test_bad_r_refcoco_is_named(write_refs):
    def change(refs):
        refs[1]['category_id'] = '7'
        return robust(refs)

    with pytest.raises(InputError, match=r"refs\(unc\)\.p: references.category_id: found '7' in a list of ids"):
        RRefCOCODataset(write_refs('rrefcoco', 'refs(unc).p', change))


@pytest.mark.parametrize('kind', [RefZOMDataset, RRefCOCODataset, RefCOCOPartsDataset, PhraseCutDataset])
def test_a_missing_file_is_named(kind):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        kind('nowhere')


def test_no_code_in_their_pickles_is_run(tmp_path):
    path = tmp_path / 'refs(unc).p'
    path.write_bytes(pickle.dumps(print))
    for kind in (RefZOMDataset, RRefCOCODataset):
        with pytest.raises(InputError, match='Nothing in it was run'):
            kind(ann_file=str(path), refs_file=str(path))


SNIPPETS = re.findall(r'^```python\n(.*?)^```$', (ROOT / 'docs' / 'test_sets.md').read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize('snippet', SNIPPETS, ids=lambda snippet: re.search(r"type='(\w+)'", snippet).group(1))
def test_configs_on_the_page_name_data_sets(tmp_path, snippet):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'snippet.py').write_text(snippet)
    config = Config.fromfile(tmp_path / 'snippet.py')
    dataset = DATASETS.build(dict(config.test_dataloader.dataset, lazy_init=True))
    assert dataset.test_mode and len(dataset.pipeline.transforms) == 4
    METRICS.build(config.test_evaluator)
