"""Items of a training that are images with several of their sentences."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import FUNCTIONS
from mmseg.registry import MODELS, TRANSFORMS
from torch.utils.data import DataLoader

from dit_sam.datasets import RefCOCODataset, ReferringJSONDataset, flatten_collate
from dit_sam.datasets.shapes import write_shapes
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import ResumableSampler
from dit_sam.models.data_preprocessor import shared_image_indices

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadReferringMask'),
    dict(type='ReferringColorJitter'),
    dict(type='RandomGaussianBlur'),
    dict(type='RandomChoiceResize', scales=[(32, 32), (24, 24), (16, 16)], keep_ratio=True),
    dict(type='ReferringFlip', prob=0.5),
    dict(type='AddTextEncoderImage', size=8),
    dict(type='PackReferringInputs'),
]


@TRANSFORMS.register_module()
class UncachedNoise(BaseTransform):
    """A transform whose random numbers mmcv cannot repeat."""

    def transform(self, results: dict) -> dict:
        results['img'] = results['img'] + np.random.randint(1, 9, results['img'].shape).astype(np.uint8)
        return results


def build(root: str, sentences: int, pipeline: list = PIPELINE, **kwargs) -> RefCOCODataset:
    return RefCOCODataset(root, pipeline=pipeline, sentences_per_image=sentences, **kwargs)


def test_an_item_is_an_image_with_some_of_its_sentences(write_refcoco):
    root = write_refcoco()
    single = RefCOCODataset(root)
    images = {single.get_data_info(i)['img_path'] for i in range(len(single))}
    table = single.table
    texts = {table.sentence(row)['text'] for row in range(table.rows('sentences')) if row < table.sentence_rows(2)[1]}

    dataset = build(root, 99)
    assert len(dataset) == len(images)
    found = [sample.metainfo for i in range(len(dataset)) for sample in dataset[i]['data_samples']]
    assert {meta['img_path'] for meta in found} == images
    assert len(found) == len({meta['sent_id'] for meta in found}) >= len(texts)

    two, seen = build(root, 2), set()
    for seed in range(20):
        np.random.seed(seed)
        drawn = [sample.metainfo['sent_id'] for sample in two[0]['data_samples']]
        assert len(drawn) == len(set(drawn)) <= 2
        seen |= set(drawn)
    assert seen == {meta['sent_id'] for meta in found if meta['img_path'] == found[0]['img_path']}


def test_sentences_of_an_image_share_its_augmentation(write_refcoco):
    dataset, flips = build(write_refcoco(), 3), set()
    for seed in range(8):
        np.random.seed(seed)
        item = dataset[0]
        first, *others = item['data_samples']
        flips.add(first.metainfo['flip'])
        assert others
        for image, sample in zip(item['inputs'][1:], others):
            assert image is item['inputs'][0]
            assert torch.equal(sample.text_encoder_image.data, first.text_encoder_image.data)
            assert sample.metainfo['flip'] == first.metainfo['flip']
            assert sample.gt_sem_seg.shape == first.gt_sem_seg.shape
    assert flips == {True, False}


def test_two_ranks_visit_each_image_once_an_epoch(tmp_path, monkeypatch):
    """Also an epoch that is continued: each rank has done one batch, of two images."""
    write_shapes(tmp_path, images=8, size=64, splits=dict(train=1.0))
    files = dict(ann_file='shapes/instances.json', refs_file='shapes/refs(unc).p', data_prefix=dict(img_path='images/'))
    dataset = build(str(tmp_path), 2, [PIPELINE[0], PIPELINE[1], PIPELINE[-1]], **files)
    loaders = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = ResumableSampler(dataset, seed=0)
        loaders.append(DataLoader(dataset, 2, sampler=sampler, collate_fn=flatten_collate))
    orders = []
    for epoch, start in ((0, 0), (1, 0), (1, 2)):
        visits = []
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
            loader.sampler.start = start
            batches = [[sample.metainfo['img_path'] for sample in batch['data_samples']] for batch in loader]
            assert all(len(batch) == 4 and batch[::2] == batch[1::2] for batch in batches)
            visits.append([path for batch in batches for path in batch[::2]])
        orders.append(visits)
    whole, other, rest = orders
    assert [len({*first, *second}) for first, second in (whole, other)] == [8, 8]
    assert [len(first) for first, _ in orders] == [4, 4, 2] and whole != other
    assert rest == [order[2:] for order in other]


def test_the_data_preprocessor_notes_which_sentences_share_an_image(write_refcoco):
    dataset = build(write_refcoco(), 2)
    batch = FUNCTIONS.get('flatten_collate')([dataset[0], dataset[0], dataset[len(dataset) - 1]])
    preprocessor = MODELS.build(dict(type='ReferringDataPreProcessor', size=(32, 32)))
    prepared = preprocessor(batch, training=True)
    indices = [sample.metainfo['unique_image_index'] for sample in prepared['data_samples']]
    # Two visits of one image are augmented apart.
    assert [index - indices[0] for index in indices[:4]] == [0, 0, 1, 1] and {*indices[4:]} == {indices[0] + 2}
    assert prepared['inputs'].shape == (len(indices), 3, 32, 32)
    assert torch.equal(prepared['inputs'][0], prepared['inputs'][1])
    with pytest.raises(InputError, match="collate_fn=dict.type='flatten_collate'"):
        preprocessor(FUNCTIONS.get('pseudo_collate')([dataset[0], dataset[0]]), training=True)


@TRANSFORMS.register_module()
class DropFirst(BaseTransform):
    """A transform that drops the first item it sees, as mmcv's may."""

    def __init__(self) -> None:
        self.seen = 0

    def transform(self, results: dict) -> dict | None:
        """The item, or None."""
        self.seen += 1
        return results if self.seen > 1 else None


@pytest.mark.parametrize('sentences', [2, None])
def test_another_item_takes_the_place_of_a_dropped_one(write_refcoco, sentences):
    dataset = build(write_refcoco(), sentences, [PIPELINE[0], dict(type='DropFirst'), *PIPELINE[1:]])
    assert dataset[0]['data_samples']


def test_the_first_sentence_of_a_batch_has_an_image_of_its_own(write_refcoco):
    samples = build(write_refcoco(), 2)[0]['data_samples']
    samples[0].set_metainfo(dict(shares_image=True))
    new = samples[0].clone()
    new.set_metainfo(dict(shares_image=False))
    assert shared_image_indices(dict(data_samples=[samples[0], new, samples[0]], inputs=[])) == [0, 1, 1]


def test_what_cannot_share_an_image_is_refused(write_refcoco):
    root = write_refcoco()
    pipeline = [PIPELINE[0], dict(type='UncachedNoise'), PIPELINE[1], PIPELINE[-1]]
    with pytest.raises(InputError, match='changed the image differently for each sentence'):
        build(root, 2, pipeline)[0]
    with pytest.raises(InputError, match='for training only'):
        build(root, 2, test_mode=True)
    with pytest.raises(InputError, match='sentences_per_image=0'):
        build(root, 0)
    with pytest.raises(InputError, match='set sentences_per_image in every data set, or leave collate_fn out'):
        flatten_collate([build(root, 2)[0], build(root, None)[0]])


def test_masks_in_files_and_no_targets_of_json_lines_stay(tmp_path):
    """What a line says of its mask is read for several sentences as for one."""
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:20] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((20, 30, 3), 99, np.uint8))
    cv2.imwrite(str(tmp_path / 'a_mask.png'), mask)
    lines = [
        dict(image='a.png', sentences=['one', 'two'], mask='a_mask.png'),
        dict(image='a.png', sentences=['none'], segmentation=None),
    ]
    (tmp_path / 'lines.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    folders = dict(data_root=str(tmp_path), data_prefix=dict(img_path='', seg_map_path=''))
    pipeline = [PIPELINE[0], PIPELINE[1], PIPELINE[-1]]
    dataset = ReferringJSONDataset(ann_file='lines.jsonl', sentences_per_image=3, pipeline=pipeline, **folders)
    samples = {sample.text: sample for sample in dataset[0]['data_samples']}
    assert {text: int(sample.gt_sem_seg.data.sum()) for text, sample in samples.items()} == dict(one=75, two=75, none=0)
    assert {text: sample.no_target for text, sample in samples.items()} == dict(one=False, two=False, none=True)
