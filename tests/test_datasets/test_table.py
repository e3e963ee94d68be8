"""The prepared form: the same items as the original, opened without parsing, refused if damaged."""

import json
import os

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dit_sam.datasets import GRefCOCODataset, RefCOCODataset, ReferringDataset, ReferringTable, TableBuilder
from dit_sam.datasets.masks import encode_mask
from dit_sam.errors import InputError


@pytest.fixture
def table() -> ReferringTable:
    """Two images, three targets, three references; one sentence has a kind, one was typed otherwise."""
    builder = TableBuilder()
    images = [builder.add_image(7, 'é.jpg', 4, 5), builder.add_image(8, 'b.jpg', 3, 3)]
    targets = [builder.add_target(70, encode_mask(np.eye(4, 5))), builder.add_target(80, encode_mask(np.ones((3, 3))))]
    builder.add_reference(
        1, 3, images[0], targets[0], [dict(sent_id=10, text='naïve'), dict(sent_id=11, text='b', raw='B!')]
    )
    builder.add_reference(2, 3, images[1], targets[1], [dict(sent_id=20, text='全部', kind='several')])
    builder.add_reference(3, 4, images[0], targets[0], [dict(sent_id=30, text='d')])
    return builder.build(dataset='mine', split='val')


def test_a_table_without_references_is_refused():
    with pytest.raises(InputError, match='the data have no reference: name other files or another split'):
        TableBuilder().build()


def all_of(dataset) -> list:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


@pytest.mark.parametrize('test_mode', [False, True])
@pytest.mark.parametrize('split', ['train', 'val', 'testA'])
def test_prepared_refcoco_gives_the_same_items(write_refcoco, tmp_path, split, test_mode):
    root = write_refcoco()
    original = RefCOCODataset(root, split=split, test_mode=test_mode)
    original.table.save(tmp_path / 'prepared.safetensors')
    prepared = ReferringDataset('prepared.safetensors', root, test_mode=test_mode)
    assert len(prepared) == len(original) > 0
    np.random.seed(0)
    expected = [all_of(original) for _ in range(5)]
    np.random.seed(0)
    assert [all_of(prepared) for _ in range(5)] == expected
    assert prepared.metainfo == original.metainfo


@pytest.mark.parametrize('test_mode', [False, True])
def test_prepared_grefcoco_gives_the_same_items(write_refcoco, tmp_path, test_mode):
    """Tuples of ids, a target of nothing among them."""
    root = write_refcoco()
    refs = [
        dict(
            ref_id=1,
            image_id=1,
            ann_id=[11, 12],
            category_id=[1, 1],
            split='val',
            sentences=[dict(sent_id=10, sent='both')],
        ),
        dict(
            ref_id=2, image_id=1, ann_id=[-1], category_id=[-1], split='val', sentences=[dict(sent_id=20, sent='a dog')]
        ),
    ]
    (tmp_path / 'grefs(unc).json').write_text(json.dumps(refs))
    original = GRefCOCODataset(root, 'refcoco/instances.json', 'grefs(unc).json', split='val', test_mode=test_mode)
    original.table.save(tmp_path / 'prepared.safetensors')
    prepared = ReferringDataset('prepared.safetensors', root, test_mode=test_mode)
    assert all_of(prepared) == all_of(original)
    assert [item['ann_id'] for item in all_of(prepared)] == [(11, 12), ()]


def test_rows_and_header_survive_saving(table, tmp_path):
    table.save(tmp_path / 'mine.safetensors')
    opened = ReferringTable.open(tmp_path / 'mine.safetensors')
    assert opened.header == dict(dataset='mine', split='val')
    assert opened.counts == table.counts == dict(images=2, references=3, sentences=4, masks=2)
    assert [opened.reference(row) for row in range(3)] == [table.reference(row) for row in range(3)]
    assert [opened.sentence(row) for row in range(4)] == [
        dict(sent_id=10, text='naïve'),
        dict(sent_id=11, text='b'),
        dict(sent_id=20, text='全部', kind='several'),
        dict(sent_id=30, text='d'),
    ]
    assert [opened.raw(row) for row in range(4)] == ['naïve', 'B!', '全部', 'd']
    assert [opened.sentence_rows(row) for row in range(3)] == [(0, 2), (2, 3), (3, 4)]
    assert [opened.reference_of(row) for row in range(4)] == [0, 0, 1, 2]
    first = opened.reference(0)
    assert (first['img_id'], first['file_name'], first['height'], first['width']) == (7, 'é.jpg', 4, 5)


def test_header_says_what_is_in_the_file(table, tmp_path):
    table.save(tmp_path / 'mine.safetensors')
    with safe_open(tmp_path / 'mine.safetensors', framework='np') as file:
        header = json.loads(file.metadata()['dit_sam'])
    assert header == dict(format='dit_sam referring table', version=1, dataset='mine', split='val', counts=table.counts)


def test_same_table_same_bytes(table, tmp_path):
    for name in 'ab':
        table.save(tmp_path / name)
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()
    assert sorted(os.listdir(tmp_path)) == ['a', 'b']


def change(name, edit):
    """A function that changes one array of a file."""

    def apply(arrays):
        arrays[name] = np.ascontiguousarray(edit(arrays[name].copy()))

    apply.__name__ = name
    return apply


def put(row, value):

    def edit(array):
        array[row] = value
        return array

    return edit


def without(name):

    def apply(arrays):
        del arrays[name]

    return apply


@pytest.mark.parametrize(
    'edit, message',
    [
        (without('sentences.text'), 'the column sentences.text is missing'),
        (without('sentences.text.ends'), 'the column sentences.text is of the wrong type'),
        (change('images.height', put(0, 0)), 'images.height has a value outside of 1 to 65535'),
        (change('references.image', put(1, 2)), 'references.image has a value outside of 0 to 1'),
        (change('references.target', put(1, -1)), 'references.target has a value outside of 0 to 1'),
        (change('references.sentences', put(0, 3)), 'references.sentences does not fit the sentences'),
        (change('references.sentences', put(2, 5)), 'references.sentences does not fit the sentences'),
        (change('references.ref_id', lambda array: array[:2]), 'is longer or shorter than references.ref_id'),
        (change('references.ref_id', lambda array: array.astype(float)), 'references.ref_id is of the wrong type'),
        (change('images.height', lambda array: array[:, None]), 'images.height is of the wrong type or shape'),
        (change('targets.mask.ends', put(0, 10**9)), 'the entries of the column targets.mask do not fit their ends'),
        (change('targets.mask.ends', put(0, -1)), 'the entries of the column targets.mask do not fit their ends'),
        (change('sentences.text', put(0, 0xFF)), 'sentences.text is not UTF-8'),
        (
            change('images.file_name.ends', put(0, 1)),
            'an entry of the column images.file_name starts within a character',
        ),
    ],
)
def test_damaged_columns_are_named(table, tmp_path, edit, message):
    path = str(tmp_path / 'mine.safetensors')
    table.save(path)
    with safe_open(path, framework='np') as file:
        metadata = file.metadata()
    arrays = load_file(path)
    edit(arrays)
    save_file(arrays, path, metadata)
    with pytest.raises(InputError, match='mine.safetensors is damaged') as caught:
        ReferringTable.open(path)
    assert message in str(caught.value)


def test_mask_that_does_not_fill_its_image_is_refused_on_access(table, tmp_path):
    table.columns['images.height'][0] = 5
    table.save(tmp_path / 'mine.safetensors')
    dataset = ReferringDataset('mine.safetensors', str(tmp_path))
    with pytest.raises(InputError, match='mine.safetensors: annotation 70 has an RLE whose runs do not fill 5 x 5'):
        dataset.get_data_info(0)
    assert dataset.get_data_info(1)['ref_id'] == 2


FP8 = b'{"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}'


@pytest.mark.parametrize(
    'data, message',
    [
        (b'', 'is damaged or not a .safetensors file'),
        (len(FP8).to_bytes(8, 'little') + FP8 + b'ab', 'is damaged or not a .safetensors file'),
        (b'\x80\x04]q\x00.', 'is damaged or not a .safetensors file'),
        (b'\xff' * 100, 'is damaged or not a .safetensors file'),
    ],
)
def test_other_files_are_refused(tmp_path, data, message):
    (tmp_path / 'other.safetensors').write_bytes(data)
    with pytest.raises(InputError, match=message):
        ReferringDataset(str(tmp_path / 'other.safetensors'))


def test_truncated_file_is_refused(table, tmp_path):
    path = tmp_path / 'mine.safetensors'
    table.save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match='is damaged'):
        ReferringTable.open(path)


@pytest.mark.parametrize(
    'metadata, message',
    [
        (None, 'holds no prepared data'),
        (dict(dit_sam='{"format": "dit_sam referring table", "version": 2}'), 'is not of version 1'),
        (dict(dit_sam='[]'), 'holds no prepared data'),
        (dict(dit_sam='{'), 'is damaged'),
    ],
)
def test_weights_and_later_versions_are_refused(tmp_path, metadata, message):
    save_file(dict(weight=np.zeros(3)), tmp_path / 'other.safetensors', metadata)
    with pytest.raises(InputError, match=message):
        ReferringTable.open(tmp_path / 'other.safetensors')


def test_missing_file_says_what_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match='refcoco.py SRC --out DST'):
        ReferringDataset('none.safetensors', str(tmp_path))


def test_failed_write_leaves_the_old_file(table, tmp_path, monkeypatch):
    path = tmp_path / 'mine.safetensors'
    path.write_text('old')

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(InputError, match='mine.safetensors could not be written: disk full'):
        table.save(path)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    'mask, sentences, message',
    [
        (np.ones((2, 2)), [], 'reference 1 has no sentence'),
        (np.ones((1, 4)), [dict(sent_id=1, text='a')], r'a mask of \(1, 4\) for an image of \(2, 2\)'),
        (np.ones((2, 2)), ['a dog'], 'reference 1: a sentence is a dict with "sent_id" and "text", got \'a dog\''),
        (np.ones((2, 2)), [dict(sent_id=1)], 'reference 1: a sentence is a dict with "sent_id" and "text"'),
        (np.ones((2, 2)), [dict(sent_id=1, text=5)], 'sentences.text: found int .5., but a sentence must be text'),
        (dict(size=[2, 2]), [dict(sent_id=1, text='a')], 'targets.mask: found dict .*, but a mask must be an array'),
    ],
)
def test_rows_that_do_not_fit_are_named(mask, sentences, message):
    builder = TableBuilder()
    image, target = builder.add_image(1, 'a.jpg', 2, 2), builder.add_target(np.int64(1), mask)
    with pytest.raises(InputError, match=message):
        builder.add_reference(1, 0, image, target, sentences)
        builder.build()
