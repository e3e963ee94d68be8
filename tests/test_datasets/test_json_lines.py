"""Your own data as JSON lines: every form of mask, the same items as in other data sets, all problems by line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from PIL import Image
from processes import call_tool

from dit_sam.datasets import ReferringDataset, ReferringJSONDataset
from dit_sam.datasets.json_lines import parse_line
from dit_sam.datasets.transforms import decode_segmentation
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError

DOCS = Path(__file__).parents[2] / 'docs' / 'data.md'
IMAGE = 'train2014/COCO_train2014_000000000001.jpg'  # 40 x 60, as tests/conftest.py writes it
BOX = np.zeros((40, 60), np.uint8)
BOX[10:18, 5:25] = 1
# The box in every form. As runs, column by column: 210 outside, then 20 columns of 8 inside and 32 outside.
RUNS = [5 * 40 + 10] + [8, 32] * 19 + [8, 2400 - 210 - 19 * 40 - 8]
FORMS = dict(
    polygon=dict(segmentation=[[5, 10, 25, 10, 25, 18, 5, 18]]),
    polygons=dict(segmentation=[[5, 10, 15, 10, 15, 18, 5, 18], [15, 10, 25, 10, 25, 18, 15, 18]]),
    rle=dict(segmentation=dict(size=[40, 60], counts=RUNS)),
    bbox=dict(bbox=[5, 10, 20, 8]),
    mask=dict(mask='masks/box.png'),
    nothing=dict(segmentation=None),
)


@pytest.fixture
def root(write_refcoco) -> str:
    root = write_refcoco()
    Path(root, 'masks').mkdir()
    Image.fromarray(BOX * 255).save(Path(root, 'masks', 'box.png'))
    return root


def write(root: str, *records) -> str:
    text = '\n'.join(record if isinstance(record, str) else json.dumps(record) for record in records)
    Path(root, 'mine.jsonl').write_text(text + '\n')
    return root


def dataset(root: str, *records, **kwargs) -> ReferringJSONDataset:
    return ReferringJSONDataset('mine.jsonl', write(root, *records), **kwargs)


def mask_of(item: dict) -> np.ndarray:
    return decode_segmentation(item['segmentation'], item['height'], item['width'])


def line(**more) -> dict:
    """A valid line, with changes; None removes a key."""
    record = {'image': IMAGE, 'sentence': 'the box', 'bbox': [5, 10, 20, 8], **more}
    return {key: value for key, value in record.items() if value is not None}


@pytest.mark.parametrize('form', FORMS)
def test_every_form_of_mask(root, form):
    item = dataset(root, dict(image=IMAGE, sentence='the box', **FORMS[form])).get_data_info(0)
    assert (mask_of(item) == (0 if form == 'nothing' else BOX)).all()
    assert item['no_target'] == (form == 'nothing')


@pytest.mark.parametrize(
    'target',
    [dict(bbox=[70, 10, 5, 5]), dict(mask='masks/box.png'), dict(segmentation=dict(size=[40, 60], counts=[2400]))],
    ids=lambda one: [*one][0],
)
def test_a_target_without_a_pixel_is_a_target(root, target):
    Image.fromarray(BOX * 0).save(Path(root, 'masks', 'box.png'))
    item = dataset(root, line(bbox=None, **target) if 'bbox' not in target else line(**target)).get_data_info(0)
    assert (mask_of(item).any(), item['no_target']) == (False, False)


def test_items_are_those_of_the_other_data_sets(root):
    """The second line is blank; sentences count on. U+2028 ends no line."""
    more = dict(kind='place', category_id=3, image_id=9, height=40, width=60)
    first = json.dumps(line(sentence='the\u2028box\x85'), ensure_ascii=False)
    data = dataset(root, first, '', line(sentence=None, sentences=['a', 'b'], image='b.jpg', **more), test_mode=True)
    item = data.get_data_info(2)
    assert (mask_of(item) == BOX).all()
    del item['segmentation']
    assert item == dict(
        img_path=f'{root}/b.jpg',
        img_id='9',
        ref_id=3,
        ann_id=3,
        sent_id=2,
        category_id=3,
        text='b',
        kind='place',
        no_target=False,
        height=40,
        width=60,
        seg_fields=[],
        sample_idx=2,
    )
    first = data.get_data_info(0)
    assert (first['img_id'], first['text']) == ('1', 'the\u2028box\x85')


@pytest.mark.parametrize('nothing', [[], [dict(image=IMAGE, sentence='the cat', segmentation=None)]])
def test_a_saved_table_has_the_masks_of_images_and_what_means_nothing(root, nothing):
    records = [dict(image=IMAGE, sentence='the box', **FORMS[form]) for form in ('mask', 'polygon')]
    ours = dataset(root, *records, *nothing, test_mode=True)
    ours.table.save(Path(root, 'mine.safetensors'))
    saved = ReferringDataset('mine.safetensors', root, data_prefix=dict(img_path=''), test_mode=True)
    assert len(saved) == len(ours) == 2 + len(nothing)
    for row, number in zip(range(len(ours)), (1, 2, 3)):
        found, expected = saved.get_data_info(row), ours.get_data_info(row)
        assert found.pop('ann_id') == (((number,), ())[row == 2] if nothing else number)
        expected.pop('ann_id')
        assert found == expected


def test_sentence_is_drawn_in_training(root):
    data = dataset(root, line(sentence=None, sentences=['a', 'b', 'c']))
    np.random.seed(0)
    assert len(data) == 1
    assert {data.get_data_info(0)['text'] for _ in range(30)} == {'a', 'b', 'c'}


def test_pipeline_and_train2017_names(root):
    path = Path(root, IMAGE)
    path.rename(path.with_name('000000000001.jpg'))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
    data = DATASETS.build(
        dict(
            type='ReferringJSONDataset',
            ann_file='mine.jsonl',
            pipeline=pipeline,
            data_root=write(root, line(bbox=None, mask='box.png')),
            data_prefix=dict(img_path='', seg_map_path='masks'),
        )
    )
    sample = data[0]['data_samples']
    assert (sample.gt_sem_seg.data.numpy() == BOX).all()
    assert sample.text == 'the box'


@pytest.mark.parametrize('form', ['polygon', 'rle', 'bbox', 'mask'])
def test_a_photograph_turned_by_its_exif_tag_is_annotated_as_shown(root, form):
    """With and without sizes. The mask image is rotated likewise."""
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    for path, shown in ((Path(root, 'phone.png'), np.dstack([BOX * 255] * 3)), (Path(root, 'masks', 'box.png'), BOX)):
        Image.fromarray(np.ascontiguousarray(np.rot90(shown))).save(path, exif=exif)
    record = dict(image='phone.png', sentence='the box', **FORMS[form])
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadReferringMask'), dict(type='PackReferringInputs')]
    for line in (record, dict(record, height=40, width=60)):
        item = dataset(root, line, pipeline=pipeline)[0]
        assert (item['data_samples'].gt_sem_seg.data.numpy() == BOX).all()
        assert (item['inputs'].numpy() == BOX * 255).all()
        assert call_tool('dataset_converters/check.py', Path(root, 'mine.jsonl')) == 0
    with pytest.raises(InputError, match='EXIF|but its image is'):
        dataset(root, dict(record, height=60, width=40), pipeline=pipeline)[0]
    assert call_tool('dataset_converters/check.py', Path(root, 'mine.jsonl')) == 1


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(image=None), 'has no "image"'),
        (dict(image=' '), 'has no "image"'),
        (dict(sentence=None), 'needs either "sentence", a text, or "sentences"'),
        (dict(sentences=['a']), 'needs either "sentence", a text, or "sentences"'),
        (dict(sentence=['a']), "has a sentence that is blank or not text: ['a']"),
        (dict(sentence='\t'), "has a sentence that is blank or not text: '\\t'"),
        (dict(sentence=None, sentences=[]), 'has "sentences" that are not a list of texts, or an empty list'),
        (dict(sentence=None, sentences='ab'), 'has "sentences" that are not a list of texts, or an empty list'),
        (dict(bbox=None), 'needs one of "segmentation", "mask" and "bbox", has none'),
        (dict(mask='a.png'), 'has mask and bbox'),
        (dict(bbox=None, mask=3), 'has a "mask" that is not the path'),
        (dict(height=40), 'needs both "height" and "width" or neither'),
        (dict(height=40, width=0), 'needs both "height" and "width" or neither'),
        (dict(height=40, width='60'), 'needs both "height" and "width" or neither'),
        (dict(image_id=1.5), 'has 1.5 as "image_id", which must be int or str'),
        (dict(category_id=2**63), 'has 9223372036854775808 as "category_id", which must be int of 64 bits'),
        (dict(category_id='dog'), """has 'dog' as "category_id", which must be int"""),
        (dict(kind=1), 'has 1 as "kind", which must be str'),
        (dict(bbox=[1, 2, 3]), 'has the box [1, 2, 3]: x, y, width and height'),
        (dict(bbox=None, segmentation=[5, 10, 25, 10, 25, 18]), 'has a polygon of int'),
        (dict(bbox=None, segmentation='a'), """has 'a' as "segmentation": polygons, an RLE, or null"""),
        (dict(bbox=None, segmentation=[]), 'has no polygon and no RLE'),
        (dict(image='none.jpg'), 'none.jpg, which does not exist'),
        (dict(image='mine.jsonl'), 'mine.jsonl, which cannot be read'),
    ],
)
def test_bad_line_is_named(root, change, message):
    with pytest.raises(InputError) as caught:
        dataset(root, line(), line(**change))
    assert f'{root}/mine.jsonl, line 2 ' in str(caught.value) and message in str(caught.value)
    assert 'tools/dataset_converters/check.py' in str(caught.value)


@pytest.mark.parametrize(
    'text, message',
    [
        ('{', 'begins a longer JSON value'),
        ('{"image"', 'is not JSON'),
        ('[]', 'is not a JSON object but list'),
        ('{"image": "\\ud800"}', 'is not JSON'),
        ('[' * 100000, 'is not JSON'),
    ],
)
def test_other_lines_are_named(root, text, message):
    with pytest.raises(InputError, match=message):
        dataset(root, line(), text)


def test_a_byte_order_mark_is_no_error():
    assert parse_line(b'\xef\xbb\xbf' + json.dumps(line()).encode()) == (line(), [])


def test_non_text_bytes_are_named():
    assert 'is not UTF-8' in parse_line(b'{"image": "\xff"}')[1][0]


def test_all_problems_of_a_line_are_found():
    problems = parse_line(json.dumps(dict(sentence='', height=3, mask=1, bbox=2)).encode())[1]
    assert len(problems) == 5


def test_sizes_of_one_image_must_agree(root):
    with pytest.raises(InputError, match='line 2 gives .* the size 41 x 60 .*, a line before it 40 x 60'):
        dataset(root, line(), line(height=41, width=60))


@pytest.mark.parametrize(
    'mask, message',
    [
        (np.zeros((60, 40), np.uint8), 'of size [60, 40], but its image is [40, 60]'),
        (np.zeros((40, 60, 3), np.uint8), 'which has the channels RGB: save it with one'),
    ],
)
def test_mask_image_that_does_not_fit_is_named_when_it_is_read(root, mask, message):
    Image.fromarray(mask).save(Path(root, 'masks', 'box.png'))
    data = dataset(root, line(), line(bbox=None, mask='masks/box.png'))
    with pytest.raises(InputError) as caught:
        data.get_data_info(1)
    assert message in str(caught.value) and 'mine.jsonl, line 2 ' in str(caught.value)


def test_missing_mask_image_is_named_when_it_is_read(root):
    data = dataset(root, line(bbox=None, mask='none.png'))
    with pytest.raises(InputError, match='line 1 names the mask .*none.png, which does not exist'):
        data.get_data_info(0)


def test_mask_of_a_palette_is_its_indices(root):
    image = Image.fromarray(BOX * 7)
    image.putpalette([0, 0, 0] * 256)
    image.save(Path(root, 'masks', 'box.png'))
    item = dataset(root, line(bbox=None, mask='masks/box.png')).get_data_info(0)
    assert (mask_of(item) == BOX).all()


def test_lines_in_the_documentation_are_valid():
    lines = [line for line in DOCS.read_bytes().splitlines() if line.startswith(b'{"image"')]
    assert len(lines) == 3
    assert [parse_line(line)[1] for line in lines] == [[], [], []]


@pytest.mark.parametrize(
    'page, name', [('data', 'ldit_vit-t_mine'), ('finetuning', 'evf_mine'), ('finetuning', 'ldit_mine')]
)
def test_configs_of_the_documentation_read_such_lines(root, tmp_path, page, name):
    page = DOCS.with_name(f'{page}.md')
    code = re.search(rf'^```python {name}.py\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL)[1]
    path = tmp_path / f'{name}.py'
    path.write_text(code.replace("'configs/", f"'{DOCS.parents[1]}/configs/"))
    config = load_config(str(path))
    write(root, *[line(bbox=None, mask='box.png')] * 8)
    for name, file in (('train', 'train.jsonl'), ('val', 'val.jsonl'), ('test', 'val.jsonl')):
        loader = config[f'{name}_dataloader']
        assert (loader.dataset.ann_file, loader.dataset.get('test_mode', False)) == (file, name != 'train')
        prefix = dict(loader.dataset.data_prefix, img_path='')
        loader.dataset.update(data_root=root, ann_file='mine.jsonl', data_prefix=prefix)
        loader.update(num_workers=0, persistent_workers=False)
        batch = next(iter(Runner.build_dataloader(loader, seed=0)))
        assert all(sample.gt_sem_seg.data.any() for sample in batch['data_samples'])


def test_empty_and_missing_files_are_named(root):
    with pytest.raises(InputError, match='has no line'):
        dataset(root, '', ' ')
    with pytest.raises(FileNotFoundError, match='none.jsonl'):
        ReferringJSONDataset('none.jsonl', root)
