import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import Runner
from PIL import Image

from dit_sam.datasets import RefCOCODataset
from dit_sam.datasets.transforms import decode_segmentation

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / 'shared' / 'realref'


def pixels(item: dict) -> list:
    """Rows and columns of the mask's first and last pixel, and their number."""
    rows, columns = np.nonzero(decode_segmentation(item['segmentation'], item['height'], item['width']))
    return [rows.min(), columns.min(), rows.max(), columns.max(), len(rows)]


BOX = [10, 5, 17, 24, 20 * 8]


def test_training_items_are_references(write_refcoco):
    dataset = RefCOCODataset(write_refcoco())
    item = dataset.get_data_info(1)
    assert len(dataset) == 3
    assert item.pop('img_path').endswith('train2014/COCO_train2014_000000000001.jpg')
    assert pixels(item) == BOX
    segmentation = item.pop('segmentation')
    assert segmentation['size'] == [40, 60] and isinstance(segmentation['counts'], bytes)
    assert item == dict(
        img_id=1,
        ref_id=2,
        ann_id=11,
        sent_id=20,
        category_id=1,
        text='box near the bright wall',
        no_target=False,
        height=40,
        width=60,
        seg_fields=[],
        sample_idx=1,
    )


def test_references_that_share_an_annotation_are_kept(write_refcoco):
    dataset = RefCOCODataset(write_refcoco())
    items = [dataset.get_data_info(index) for index in range(3)]
    assert [(item['ref_id'], item['ann_id']) for item in items] == [(1, 11), (2, 11), (3, 12)]
    assert [pixels(item) for item in items] == [BOX, BOX, [0, 2, 39, 2, 40]]  # column 2


def test_each_visit_draws_a_sentence(write_refcoco):
    dataset = RefCOCODataset(write_refcoco())

    def draw(seed):
        np.random.seed(seed)
        return [dataset.get_data_info(0)['text'] for _ in range(30)]

    assert set(draw(0)) == {'left box', 'the box on the left', 'wide one'}
    assert draw(0) == draw(0) != draw(1)


def test_draws_of_workers_are_seeded_and_vary_over_epochs(write_refcoco):
    """Two workers, a reference with a hundred wordings: chance repeats ten draws with probability 1e-20."""

    def many_wordings(_, refs):
        refs[1]['sentences'] = [dict(sent_id=number, sent=f'wording {number}') for number in range(100)]

    root = write_refcoco(many_wordings)

    def epochs(seed):
        pipeline = [dict(type='LoadImageFromFile'), dict(type='PackReferringInputs')]
        dataset = dict(type='RefCOCODataset', data_root=root, pipeline=pipeline, indices=[1] * 10)
        loader = Runner.build_dataloader(
            dict(
                batch_size=1,
                num_workers=2,
                persistent_workers=True,
                dataset=dataset,
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
            seed=seed,
        )
        return [[sample.text for batch in loader for sample in batch['data_samples']] for _ in range(2)]

    first, again, other = epochs(0), epochs(0), epochs(1)
    assert first == again != other
    assert first[0] != first[1]
    assert len(set(first[0])) > 5


def test_test_items_are_sentences(write_refcoco):
    dataset = RefCOCODataset(write_refcoco(), split='val', test_mode=True)
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [(item['ref_id'], item['sent_id'], item['text']) for item in items] == [
        (4, 40, 'two corners'),
        (4, 41, 'both squares'),
        (4, 42, 'squares'),
        (5, 50, 'everything'),
    ]
    assert [pixels(item) for item in items] == [[0, 0, 29, 49, 2 * 100]] * 3 + [[0, 0, 35, 35, 36 * 36]]


def test_masks_are_stored_once(write_refcoco):
    def many_sentences(_, refs):
        refs[3]['sentences'] = [dict(sent_id=number, sent='squares') for number in range(50)]

    few = RefCOCODataset(write_refcoco(), split='val', test_mode=True)
    many = RefCOCODataset(write_refcoco(many_sentences), split='val', test_mode=True)
    assert len(many) == 51
    assert few.table.counts == dict(images=2, references=2, sentences=4, masks=2)
    assert many.table.counts == dict(images=2, references=2, sentences=51, masks=2)


@pytest.mark.parametrize('serialize_data', [True, False])
def test_subset_keeps_its_masks(write_refcoco, serialize_data):
    dataset = RefCOCODataset(write_refcoco(), serialize_data=serialize_data)
    subset = dataset.get_subset([2])
    assert subset.get_data_info(0)['segmentation'] == dataset.get_data_info(2)['segmentation']
    assert len(RefCOCODataset(write_refcoco(), indices=2)) == 2


def test_copies_share_the_table(write_refcoco):
    dataset = RefCOCODataset(write_refcoco())
    assert dataset.get_subset([0]).table is dataset.table


def test_last_item_by_a_negative_index(write_refcoco):
    dataset = RefCOCODataset(write_refcoco())
    item = dataset.get_data_info(-1)
    assert (item['ref_id'], item['sample_idx']) == (3, 2)


def test_given_kinds_of_sentences_are_kept(write_refcoco):
    def add_kind(_, refs):
        refs[5]['sentences'][0]['kind'] = refs[3]['sentences'][2]['kind'] = 'place'

    root = write_refcoco(add_kind)
    assert RefCOCODataset(root, split='testA', test_mode=True).get_data_info(0)['kind'] == 'place'
    val = RefCOCODataset(root, split='val', test_mode=True)
    assert [val.get_data_info(index).get('kind') for index in range(4)] == [None, None, 'place', None]


def test_short_file_names_of_train2017(write_refcoco):
    root = write_refcoco()
    folder = os.path.join(root, 'train2014')
    os.rename(f'{folder}/COCO_train2014_000000000001.jpg', f'{folder}/000000000001.jpg')
    dataset = RefCOCODataset(root, pipeline=[dict(type='LoadImageFromFile')])
    assert dataset[0]['img_path'] == f'{folder}/000000000001.jpg'
    assert dataset[0]['ori_shape'] == (40, 60)


def test_missing_image_is_an_error_when_its_item_is_loaded(write_refcoco):
    """In testing; in training another item takes its place."""
    root = write_refcoco()
    path = os.path.join(root, 'train2014', 'COCO_train2014_000000000002.jpg')
    os.remove(path)
    dataset = RefCOCODataset(root, split='val', test_mode=True, pipeline=[dict(type='LoadImageFromFile')])
    assert len(dataset) == 4
    with pytest.raises(FileNotFoundError, match='Image not found') as caught:
        dataset[0]
    short = os.path.join(os.path.dirname(path), os.path.basename(path).removeprefix('COCO_train2014_'))
    assert f'{path} (nor {short})' in str(caught.value) and 'data_prefix.img_path' in str(caught.value)
    assert dataset[3]['ori_shape'] == (36, 36)


def test_image_rotated_by_its_exif_tag_is_an_error_with_a_remedy(write_refcoco):
    root = write_refcoco()
    path = os.path.join(root, 'train2014', 'COCO_train2014_000000000001.jpg')
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be shown turned by 90 degrees
    Image.open(path).save(path, exif=exif)

    def first(**loading):
        return RefCOCODataset(
            root, pipeline=[dict(type='LoadImageFromFile', **loading), dict(type='LoadReferringMask')]
        )[0]

    with pytest.raises(ValueError, match='EXIF'):
        first()
    assert first(color_type='color_ignore_orientation')['gt_seg_map'].shape == (40, 60)


@pytest.mark.parametrize('name', ['instances.json', 'refs(unc).p'])
def test_missing_file_says_how_to_get_it(write_refcoco, name):
    root = write_refcoco()
    path = os.path.join(root, 'refcoco', name)
    os.remove(path)
    with pytest.raises(FileNotFoundError) as caught:
        RefCOCODataset(root)
    for part in (path, 'tools/dataset_converters/shapes.py', '"Training on RefCOCO"'):
        assert part in str(caught.value)


def test_unknown_split_lists_the_others(write_refcoco):
    with pytest.raises(ValueError, match=r'no split "test"; it has train \(3 .*val \(2 .*testA \(1 references\)'):
        RefCOCODataset(write_refcoco(), split='test')


def test_refclef_has_lists_of_rles_and_test_sets_that_overlap(write_refcoco):
    """Ids are text there."""

    def edit(content, refs):
        rle = content['annotations'][1]['segmentation']
        content['annotations'][1]['segmentation'] = [rle, dict(rle, counts=[40, 40, 2320])]  # columns 2 and 1
        for annotation in content['annotations']:
            annotation['id'] = str(annotation['id'])
        for ref, split in zip(refs, ('testA', 'testAB', 'testABC', 'val', 'val', 'testA')):
            ref.update(split=split, ann_id=str(ref['ann_id']))

    root = write_refcoco(edit)
    lengths = {split: len(RefCOCODataset(root, split=split)) for split in ('testA', 'testB', 'testC', 'val')}
    assert lengths == dict(testA=4, testB=2, testC=1, val=2)
    item = RefCOCODataset(root, split='testC').get_data_info(0)
    assert (item['ref_id'], item['ann_id'], pixels(item)) == (3, '12', [0, 1, 39, 2, 80])


@pytest.mark.skipif(not REAL.exists(), reason='the real photographs are not there')
def test_real_photographs():
    def build(**kwargs):
        return RefCOCODataset(str(REAL), data_prefix=dict(img_path='images'), **kwargs)

    assert [len(build(split=split)) for split in ('train', 'val')] == [130, 26]
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask')]
    dataset = build(split='val', test_mode=True, pipeline=pipeline)
    assert len(dataset) == 30
    for item in dataset:
        mask = decode_segmentation(item['segmentation'], item['height'], item['width'])
        assert mask.shape == item['img'].shape[:2] and 0 < mask.mean() < 1
