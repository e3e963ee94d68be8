"""gRefCOCO's original format: one object, several or none; areas computed by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import METRICS

from dit_sam.datasets import GRefCOCODataset, ReferringDataset
from dit_sam.datasets.masks import encode_segmentation, unite
from dit_sam.datasets.transforms import decode_segmentation
from dit_sam.errors import InputError

CONFIG = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets' / 'grefcoco.py'
SQUARE = [[40, 20, 50, 20, 50, 30, 40, 30]]  # x 40-49, y 20-29
CROWD = dict(size=[40, 60], counts=[0, 40, 2360])  # column 0


def reference(ref_id: int, ann_id: object, split: str, *sentences: str, category_id: object = (1,), **more) -> dict:
    """As in the file; of image 1 with its annotations 11 (20 × 8 pixels), 12 (a column of 40), and 13 and 14 below."""
    return dict(
        ref_id=ref_id,
        image_id=1,
        ann_id=ann_id,
        category_id=category_id,
        split=split,
        # With a number, as in references from RefCOCO: only the image's id identifies the file.
        file_name='COCO_train2014_000000000001_5.jpg',
        sent_ids=[10 * ref_id + number for number in range(len(sentences))],
        sentences=[
            dict(sent_id=10 * ref_id + number, sent=sent, raw=sent.upper(), tokens=sent.split())
            for number, sent in enumerate(sentences)
        ],
        **more,
    )


def references() -> list:
    return [
        reference(0, 11, 'train', 'wide one', 'left box', category_id=1),
        reference(1, [11, 13], 'train', 'both boxes', 'the two boxes', 'all boxes'),
        reference(2, [-1], 'train', 'the dog', category_id=[-1]),
        reference(3, [11, 12], 'val', 'box and stripe', 'box with the stripe'),
        reference(4, [11], 'val'),
        reference(5, -1, 'val', 'a cat', category_id=-1),
        reference(6, [13, 14], 'val', 'the square'),
        reference(7, [11], 'val', 'a bird', no_target=True),
    ]


@pytest.fixture
def write_grefcoco(write_refcoco) -> Callable:
    """`write_grefcoco(edit)` writes the set after `edit(references)` and returns its root."""

    def add_annotations(content: dict, _) -> None:
        content['annotations'] += [
            dict(id=13, image_id=1, category_id=1, iscrowd=0, segmentation=SQUARE),
            dict(id=14, image_id=1, category_id=1, iscrowd=1, segmentation=CROWD),
            dict(id=15, image_id=1, category_id=1, iscrowd=0, segmentation=[[70, 20, 75, 20, 75, 30]]),
        ]

    def write(edit: Callable | None = None) -> str:
        root, refs = Path(write_refcoco(add_annotations)), references()
        if edit is not None:
            edit(refs)
        (root / 'grefcoco').mkdir(exist_ok=True)
        (root / 'refcoco' / 'instances.json').rename(root / 'grefcoco' / 'instances.json')
        (root / 'grefcoco' / 'grefs(unc).json').write_text(json.dumps(refs))
        return str(root)

    return write


def area(item: dict) -> int:
    return int(decode_segmentation(item['segmentation'], item['height'], item['width']).sum())


def test_masks_are_unions(write_grefcoco):
    """11 has 20 · 8 = 160 pixels, 13 has 10 · 10 = 100 elsewhere."""
    dataset = GRefCOCODataset(write_grefcoco())
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [(item['ref_id'], item['ann_id'], area(item)) for item in items] == [
        (0, (11,), 160),
        (1, (11, 13), 160 + 100),
        (2, (), 0),
    ]
    assert items[0]['img_path'].endswith('train2014/COCO_train2014_000000000001.jpg')
    assert (items[2]['category_id'], items[2]['text'], items[2]['segmentation']['size']) == ((), 'the dog', [40, 60])


def test_test_items_are_sentences(write_grefcoco):
    """The stripe is column 2, left of the box. A crowd does not count, nor does a reference without a sentence."""
    dataset = GRefCOCODataset(write_grefcoco(), split='val', test_mode=True)
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [(item['sent_id'], item['text'], area(item)) for item in items] == [
        (30, 'box and stripe', 160 + 40),
        (31, 'box with the stripe', 160 + 40),
        (50, 'a cat', 0),
        (60, 'the square', 100),
        (70, 'a bird', 0),
    ]


def test_no_target_follows_the_annotation(write_grefcoco):
    """A single crowd is a target, and so is an object outside the picture, which has no pixel."""

    def edit(refs):
        refs[6]['ann_id'] = [14]
        refs[3]['ann_id'] = [15]

    dataset = GRefCOCODataset(write_grefcoco(edit), split='val', test_mode=True)
    items = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [(item['ann_id'], item['no_target'], area(item)) for item in items] == [
        ((15,), False, 0),
        ((15,), False, 0),
        ((), True, 0),
        ((14,), False, 40),
        ((), True, 0),
    ]


def test_a_non_numeric_iscrowd_is_an_error(write_grefcoco):
    """A text would count as a crowd, also "0"."""
    root = write_grefcoco()
    path = Path(root, 'grefcoco', 'instances.json')
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": "0"'))
    with pytest.raises(InputError, match=r"annotation 11 has the iscrowd '0': the number 0 or 1 is needed \(reference"):
        GRefCOCODataset(root)


def test_each_visit_draws_a_sentence(write_grefcoco):
    dataset = GRefCOCODataset(write_grefcoco())
    np.random.seed(0)
    assert {dataset.get_data_info(1)['text'] for _ in range(30)} == {'both boxes', 'the two boxes', 'all boxes'}


@pytest.mark.parametrize(
    'segmentations, pixels',
    [
        ([], 0),
        ([SQUARE], 100),
        ([SQUARE, SQUARE], 100),
        ([SQUARE, [[45, 25, 55, 25, 55, 35, 45, 35]]], 100 + 100 - 25),
        ([SQUARE, CROWD], 100 + 40),
        ([SQUARE, dict(size=[40, 60], counts=[40 * 40, 40, 40 * 19])], 100 + 40 - 10),  # column 40
    ],
)
def test_union_counts_a_pixel_once(segmentations, pixels):
    counts = unite([encode_segmentation(segmentation, 40, 60) for segmentation in segmentations], 40, 60)
    mask = decode_segmentation(dict(size=[40, 60], counts=counts), 40, 60)
    assert (mask.shape, int(mask.sum()), mask.max(initial=0)) == ((40, 60), pixels, min(pixels, 1))


def test_config_yields_batches_and_empty_predictions_score_for_no_target(write_grefcoco):
    """Predictions of nothing: 3 of 5 sentences have a target, one of them without a pixel, so gIoU = 2 / 5."""

    def edit(refs):
        refs[6]['ann_id'] = [15]

    config = Config.fromfile(CONFIG)
    loaders = {}
    for name in ('train', 'val'):
        loader = config[f'{name}_dataloader']
        loader.update(batch_size=5, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = write_grefcoco(edit)
        loaders[name] = Runner.build_dataloader(loader, seed=0)
    samples = {name: next(iter(loader))['data_samples'] for name, loader in loaders.items()}
    assert sorted(bool(sample.gt_sem_seg.data.any()) for sample in samples['train']) == [False, True, True]
    metric = METRICS.build(config.val_evaluator)
    metric.process(
        {}, [dict(sample.to_dict(), pred_sem_seg=dict(data=sample.gt_sem_seg.data * 0)) for sample in samples['val']]
    )
    scores = metric.evaluate(len(samples['val']))
    assert scores['gIoU'] == pytest.approx(2 / 5 * 100)
    assert (scores['N-acc'], scores['T-acc']) == (100, 0)


def test_scores_with_the_ground_truth_drawn_as_in_rela(write_grefcoco, tmp_path):
    """From the original files and from a prepared one, by the settings in docs/scores.md. All targets are boxes of
    whole pixels, so that at 480 x 480 they are the stretched masks."""
    root = write_grefcoco()
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadReferringMask', scaled_side=480),
        dict(type='PackReferringInputs'),
    ]
    original = GRefCOCODataset(root, split='val', test_mode=True, keep_outlines=True, pipeline=pipeline)
    original.table.save(tmp_path / 'prepared.safetensors')
    prepared = ReferringDataset('prepared.safetensors', root, test_mode=True, pipeline=pipeline)
    assert [len(original.get_data_info(index)['outlines']) for index in (0, 2)] == [2, 0]
    for dataset in (original, prepared):
        metric = METRICS.build(dict(type='ReferringIoU', protocol='rela480', generalized=True))
        for index in range(len(dataset)):
            sample = dataset[index]['data_samples'].to_dict()
            metric.process({}, [dict(sample, pred_sem_seg=sample['gt_sem_seg'])])
        scores = metric.evaluate(len(dataset))
        assert (scores['gIoU'], scores['cIoU'], scores['N-acc'], scores['T-acc']) == (100, 100, 100, 100)


@pytest.mark.parametrize(
    'edit, message',
    [
        (lambda refs: refs[1].pop('split'), 'item 1 has no key "split"'),
        (lambda refs: refs[1]['sentences'][2].pop('sent'), 'item 1, sentence 2 has no key "sent"'),
        (
            lambda refs: refs[1].update(ann_id=['eleven']),
            """item 1: "ann_id" must be a number or a list of numbers, got ['el""",
        ),
        (lambda refs: refs[1]['sentences'][0].update(sent=5), 'item 1, sentence 0: "sent" must be text, got 5'),
        (
            lambda refs: refs[1].update(ann_id=[11, 99]),
            'has no ann_id 99: the two files do not belong together (reference 1 of',
        ),
        (lambda refs: refs[1].update(ann_id=[11, 21]), 'annotation 21 is of image 2, not 1 (reference 1 of'),
    ],
)
def test_bad_item_is_named(write_grefcoco, edit, message):
    root = write_grefcoco(edit)
    with pytest.raises(ValueError) as caught:
        GRefCOCODataset(root)
    assert message in str(caught.value) and 'grefs(unc).json' in str(caught.value)


@pytest.mark.parametrize(
    'content, message',
    [
        (b'\x80\x02]q\x00.', 'is not JSON'),
        (b'{"refs": []}', 'expected a list of references, got dict'),
        (b'[[]]', 'item 0: expected a dict, got list'),
    ],
)
def test_another_format_is_named(write_grefcoco, content, message):
    root = Path(write_grefcoco())
    (root / 'grefcoco' / 'grefs(unc).json').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        GRefCOCODataset(str(root))
