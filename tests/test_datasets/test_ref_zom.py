"""Ref-ZOM and R-RefCOCO, the latter with its scores: small sets in the layout of their releases, drawn by hand."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from further_sets import PIPELINE, box, columns, items, scores
from processes import ROOT, call_tool

from dit_sam.datasets import RefCOCODataset, ReferringDataset, RefZOMDataset, RRefCOCODataset
from dit_sam.datasets.held_out import evaluation_images
from dit_sam.errors import InputError


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
            ref['sentences'].insert(0, dict(sent_id=900 + 10 * ref['ref_id'] + number, raw=text, exist=False))
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


def test_bad_r_refcoco_is_named(write_refs):
    def change(refs):
        refs[1]['category_id'] = '7'
        return robust(refs)

    with pytest.raises(InputError, match=r"refs\(unc\)\.p: references.category_id: found '7' in a list of ids"):
        RRefCOCODataset(write_refs('rrefcoco', 'refs(unc).p', change))


def test_no_code_in_their_pickles_is_run(tmp_path):
    path = tmp_path / 'refs(unc).p'
    path.write_bytes(pickle.dumps(print))
    for kind in (RefZOMDataset, RRefCOCODataset):
        with pytest.raises(InputError, match='Nothing in it was run'):
            kind(ann_file=str(path), refs_file=str(path))
