"""Joint training on several data sets without the images of any val or test split."""

import json
import os
import pickle
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from dit_sam.datasets import RefCOCODataset, ReferringJSONDataset
from dit_sam.datasets.held_out import evaluation_images
from dit_sam.datasets.images import coco_numbers
from dit_sam.errors import InputError

CONFIG = Path(__file__).parents[2] / 'configs' / 'dit_sam' / 'ldit_vit-b_joint.py'


# Image -> split in RefCOCO+ and RefCOCOg; in RefCOCO image 1 is of train, 2 of val, 3 of testA.
SPLITS = {
    'refcoco+/refs(unc).p': {1: 'train', 2: 'train', 3: 'testB'},
    'refcocog/refs(umd).p': {1: 'train', 2: 'test', 3: 'train'},
}


@pytest.fixture
def family(write_refcoco) -> str:
    """The root of three sets on one folder of images."""
    root = Path(write_refcoco())
    refs = pickle.loads((root / 'refcoco' / 'refs(unc).p').read_bytes())
    for name, split_of in SPLITS.items():
        for ref in refs:
            ref['split'] = split_of[ref['image_id']]
        (root / name).parent.mkdir()
        (root / name).write_bytes(pickle.dumps(refs))
        (root / name).with_name('instances.json').write_bytes((root / 'refcoco' / 'instances.json').read_bytes())
    return str(root)


@pytest.fixture
def log(monkeypatch) -> list:
    """What is logged."""
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', lambda level, text: lines.append(text))
    return lines


def plus(root: str, *sources: str, **kwargs) -> RefCOCODataset:
    return RefCOCODataset(
        root,
        'refcoco+/instances.json',
        'refcoco+/refs(unc).p',
        filter_cfg=dict(evaluation_images=list(sources)),
        **kwargs,
    )


@pytest.mark.parametrize('source', ['refcoco/refs(unc).p', 'refcoco'])
def test_references_to_held_out_images_are_dropped_and_counted(family, log, source):
    """RefCOCO+ trains on three references to image 1, and on one to image 2, which is of RefCOCO's val."""
    dataset = plus(family, source)
    assert [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))] == [1, 1, 1]
    assert log[-1].endswith(
        'refcoco+/refs(unc).p (train): 1 of 4 references and 1 of 2 images are left out of '
        'training: the images are in val or test splits'
    )
    assert len(dataset.get_subset([2])) == 1 and len(plus(family, source, indices=2)) == 2


def test_testing_drops_no_references(family):
    assert len(plus(family, 'refcoco', 'refcoco+', split='testB', test_mode=True)) == 2


def test_dropping_all_references_is_an_error(family):
    with pytest.raises(InputError, match=r"\(testB\): filter_cfg.evaluation_images=\['refcoco'\] leaves nothing"):
        plus(family, 'refcoco', split='testB')


@pytest.mark.parametrize('split', ['val', 'test', 'testA', 'testB', 'testC'])
def test_images_of_all_splits_except_train_are_held_out(family, tmp_path, split):
    """Image 2 is of that split, 1 and 3 of train: read from references and from prepared files."""
    path = Path(family, 'refcoco', 'refs(unc).p')
    refs = [dict(ref, split=split if ref['image_id'] == 2 else 'train') for ref in pickle.loads(path.read_bytes())]
    path.write_bytes(pickle.dumps(refs))
    (tmp_path / 'grefs(unc).json').write_text(json.dumps(refs))
    for name in (split, 'train'):
        RefCOCODataset(family, split=name).table.save(tmp_path / f'{name}.safetensors')
    for name in ('refcoco/refs(unc).p', 'grefs(unc).json', f'{split}.safetensors'):
        assert evaluation_images([str(tmp_path / name)]) == {2}
    assert evaluation_images([str(tmp_path / 'train.safetensors')]) == frozenset()


@pytest.mark.parametrize(
    'image, image_id, held_out',
    [
        ('train2014/COCO_train2014_000000000002.jpg', None, True),
        ('000000000002.jpg', None, True),
        ('train2017\\000000000002.png', None, True),
        ('COCO_train2014_000000000002_17.JPG', None, True),
        ('mine/2.jpg', None, True),
        ('x.jpg', 2, True),
        ('x.jpg', '2', True),
        ('x.jpg', '000000000002', True),
        ('000000000002.jpg', 7, True),
        ('2.jpg', 7, True),
        ('COCO_train2014_2.jpg', '12', True),
        ('000000000020.jpg', None, False),
        ('20.jpg', None, False),
        ('x.jpg', 20, False),
        ('photo2.jpg', None, None),
        ('202011230002.jpg', 'beach', None),
    ],
)
def test_own_data_are_held_out_by_any_form_of_a_coco_name(family, log, image, image_id, held_out):
    """Image 2 is in val. Pictures without a COCO number (None) stay, and one of them is named."""
    lines = [
        dict(image=name, sentence='it', bbox=[1, 1, 3, 3], height=9, width=9, image_id=number)
        for name, number in ((image, image_id), ('000000000001.jpg', None))
    ]
    lines = [{key: value for key, value in line.items() if value is not None} for line in lines]
    Path(family, 'mine.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    filter_cfg = dict(evaluation_images=['refcoco/refs(unc).p'])
    data = ReferringJSONDataset('mine.jsonl', family, filter_cfg=filter_cfg)
    assert [data.get_data_info(index)['ref_id'] for index in range(len(data))] == ([2] if held_out else [1, 2])
    warned = f'mine.jsonl: 1 of 2 images, such as {image}, have no COCO number'
    assert [warned in line for line in log] == ([False] if held_out is not None else [True, False])


@pytest.mark.parametrize(
    'name',
    [
        '2.jpg',
        '2',
        'COCO_train2014_2.jpg',
        'COCO_val2014_000000000002.jpg',
        'a/2.PNG',
        '000000000002_9.jpg',
        'beach.jpg',
    ],
)
@pytest.mark.parametrize(
    'image_id',
    [7, '12', 'beach', '000000000031.jpg', 2, '2', '2.jpg', 'COCO_train2014_2.jpg', 'COCO_train2014_000000000002.jpg'],
)
def test_numbers_in_the_file_name_and_in_the_id_both_count(name, image_id):
    """A custom id does not hide that the file is COCO's, and a custom file name does not hide a COCO id."""
    assert (2 in coco_numbers(image_id, name)) == ('2' in re.split(r'\W|_|0{11}', f'{name} {image_id}'))
    assert coco_numbers(image_id, name) <= {2, 7, 12, 31}


def test_every_form_of_the_files_holds_out_the_same(family, tmp_path):
    original = evaluation_images([f'{family}/refcoco'])
    assert original == {2, 3}
    folder = tmp_path / 'prepared'
    folder.mkdir()
    for split in ('train', 'val', 'testA'):
        RefCOCODataset(family, split=split).table.save(folder / f'{split}.safetensors')
    assert evaluation_images([str(folder)]) == original
    refs = pickle.loads(Path(family, 'refcoco', 'refs(unc).p').read_bytes())
    (tmp_path / 'grefs(unc).json').write_text(json.dumps(refs))
    assert evaluation_images([str(tmp_path / 'grefs(unc).json')]) == original


def test_a_changed_file_is_read_again(family):
    path = Path(family, 'refcoco', 'refs(unc).p')
    assert evaluation_images([str(path)]) == {2, 3}
    refs = [dict(ref, split='train') for ref in pickle.loads(path.read_bytes())]
    path.write_bytes(pickle.dumps(refs))
    os.utime(path, (1, 1))
    assert evaluation_images([str(path)]) == frozenset()


@pytest.mark.parametrize('sources, message', [(['none.p'], 'none.p not found'), (['train2014'], 'holds none of refs')])
def test_missing_sources_are_named(family, sources, message):
    with pytest.raises((FileNotFoundError, InputError), match=message):
        plus(family, *sources)


def test_unknown_filter_key_is_named(family):
    with pytest.raises(InputError, match="unknown key 'min_size'"):
        RefCOCODataset(family, filter_cfg=dict(min_size=3))


def test_config_trains_on_all_sets_and_on_no_held_out_image(family):
    """Only image 1 is of train everywhere; each set has three references to it."""
    loader = Config.fromfile(CONFIG).train_dataloader
    loader.update(batch_size=3, num_workers=0, persistent_workers=False)
    for part in loader.dataset.datasets:
        part.data_root = family
    loader = Runner.build_dataloader(loader, seed=0)
    assert [len(part) for part in loader.dataset.datasets] == [3, 3, 3]
    assert sorted(loader.sampler) == list(range(9))
    batch = next(iter(loader))
    assert [sample.img_id for sample in batch['data_samples']] == [1, 1, 1]
    assert all(sample.gt_sem_seg.data.any() for sample in batch['data_samples'])
