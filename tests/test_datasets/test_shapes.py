"""The generated data set: its format, its masks, and a check by a separate solver that every sentence is unique."""

import json
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from refer_rules import draw
from shapes_solver import EXTREMES, RELATIONS, SWAPPED, cut, mirrored, solve
from shapes_tool import run_tool

from dit_sam.datasets import RefCOCODataset, shapes
from dit_sam.datasets.masks import encode_mask, encode_segmentation
from dit_sam.datasets.shapes.drawing import visible_masks
from dit_sam.datasets.shapes.polygons import as_rectangles
from dit_sam.datasets.shapes.scene_sampling import HARD, ORDINARY

IMAGES = 300


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('shapes') / 'data'
    done = run_tool('--out', out, '--images', IMAGES, '--seed', 7, '--size', 128, '--workers', 2)
    assert done.returncode == 0, done.stderr
    assert f'{IMAGES}' in done.stdout.splitlines()[-2]
    return out


@pytest.fixture(scope='module')
def refs(folder):
    return pickle.loads((folder / 'shapes' / 'refs(unc).p').read_bytes())


@pytest.fixture(scope='module')
def instances(folder):
    return json.loads((folder / 'shapes' / 'instances.json').read_text())


@pytest.fixture(scope='module')
def scenes(folder):
    return {scene['image_id']: scene for scene in json.loads((folder / 'shapes' / 'scenes.json').read_text())['images']}


def test_every_sentence_has_exactly_one_answer(refs, scenes):
    for ref in refs:
        for sentence in ref['sentences']:
            assert solve(sentence['sent'], scenes[ref['image_id']]) == ref['ann_id'], (ref['ref_id'], sentence['sent'])


def test_mirrored_scene_with_swapped_words_has_the_same_answer(refs, scenes):
    for ref in refs:
        for sentence in ref['sentences']:
            swapped = ' '.join(SWAPPED.get(word, word) for word in sentence['tokens'])
            assert solve(swapped, mirrored(scenes[ref['image_id']])) == ref['ann_id'], (ref['ref_id'], swapped)


def test_the_kind_matches_the_sentence(refs):
    for ref in refs:
        for sentence in ref['sentences']:
            text = sentence['sent']
            kind = 'relation' if cut(text, RELATIONS) else 'place' if cut(text, EXTREMES) else 'attribute'
            assert sentence['kind'] == kind, text


def test_solver_rejects_ambiguous_sentences():
    base = dict(shape='star', colour='red', size='small', texture='plain', extent=20)
    objects = [dict(base, ann_id=i, centre=(x, 50), box=(x - 9, 40, x + 9, 60)) for i, x in enumerate((20, 24, 80))]
    scene = dict(height=100, width=100, objects=objects)
    assert solve('the rightmost star', scene) == 2
    for sentence in ('the red star', 'the leftmost star', 'the biggest star', 'the star left of the small thing'):
        with pytest.raises(AssertionError):
            solve(sentence, scene)
    with pytest.raises(KeyError):
        solve('the shiny star', scene)


def test_all_words_are_in_the_vocabulary(refs):
    texts = [sentence['sent'] for ref in refs for sentence in ref['sentences']]
    assert len(shapes.VOCABULARY) == len(set(shapes.VOCABULARY)) < 100
    assert {word for text in texts for word in text.split()} <= set(shapes.VOCABULARY)
    assert max(len(text.split()) for text in texts) <= 14
    assert all(text == text.lower() and text.replace(' ', '').isalpha() for text in texts)
    # Varied wording: few sentences are heard often.
    assert len(set(texts)) > len(texts) / 2


def test_kinds_are_about_balanced(refs):
    kinds = [sentence['kind'] for ref in refs for sentence in ref['sentences']]
    assert set(kinds) == set(shapes.KINDS)
    # Four objects on average: few references stand in a clear relation to each other in more than one way.
    assert all(0.2 < kinds.count(kind) / len(kinds) < 0.45 for kind in shapes.KINDS)
    assert 2.8 < len(refs) / IMAGES <= 3 and 2.8 < len(kinds) / len(refs) <= 3


def test_refs_have_the_format_of_refcoco(folder, refs, instances):
    annotations = {annotation['id']: annotation for annotation in instances['annotations']}
    images = {image['id']: image for image in instances['images']}
    for ref in refs:
        assert list(ref) == ['sent_ids', 'file_name', 'ann_id', 'ref_id', 'image_id', 'split', 'sentences',
                             'category_id']  # fmt: skip
        assert ref['sent_ids'] == [sentence['sent_id'] for sentence in ref['sentences']]
        assert all(list(sentence) == ['tokens', 'raw', 'sent_id', 'sent', 'kind'] for sentence in ref['sentences'])
        assert all(sentence['tokens'] == sentence['sent'].split() for sentence in ref['sentences'])
        annotation = annotations[ref['ann_id']]
        assert (annotation['image_id'], annotation['category_id']) == (ref['image_id'], ref['category_id'])
        assert images[ref['image_id']]['file_name'] == ref['file_name']
    assert len({ref['ref_id'] for ref in refs}) == len(refs) == len({ref['ann_id'] for ref in refs})
    sent_ids = [sent_id for ref in refs for sent_id in ref['sent_ids']]
    assert len(set(sent_ids)) == len(sent_ids)


def test_refs_pickle_holds_only_plain_containers(folder):
    content = (folder / 'shapes' / 'refs(unc).p').read_bytes()
    opcodes = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    assert opcodes[0] == ('PROTO', 2)
    assert not {'GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'BUILD', 'INST', 'OBJ', 'NEWOBJ'} & {name for name, _ in opcodes}


def test_splits_hold_whole_images_in_their_shares(refs):
    split_of = {}
    for ref in refs:
        assert split_of.setdefault(ref['image_id'], ref['split']) == ref['split']
    counts = {split: list(split_of.values()).count(split) for split in ('train', 'val', 'testA', 'testB')}
    assert counts == dict(train=240, val=30, testA=15, testB=15)  # 300 * (0.8, 0.1, 0.05, 0.05)


def test_instances(folder, instances, scenes):
    assert set(instances) == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert [category['name'] for category in instances['categories']] == list(shapes.SHAPES)
    assert [image['file_name'] for image in instances['images'][:2]] == ['shapes_000001.png', 'shapes_000002.png']
    assert sorted(path.name for path in (folder / 'images').iterdir()) == [i['file_name'] for i in instances['images']]
    images = {image['id']: image for image in instances['images']}
    symbols = {obj['ann_id']: obj for scene in scenes.values() for obj in scene['objects']}
    assert len(symbols) == len(instances['annotations'])
    for annotation in instances['annotations']:
        image = images[annotation['image_id']]
        mask = draw(annotation, image)
        assert mask.max() == 1, 'the parts of an object share no pixel'
        x, y, w, h = annotation['bbox']
        assert mask.shape == (image['height'], image['width'])
        assert annotation['area'] == mask.sum() > 0
        assert x >= 0 and x + w <= image['width'] and y >= 0 and y + h <= image['height']
        assert symbols[annotation['id']]['shape'] == shapes.SHAPES[annotation['category_id'] - 1]
        assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in annotation['segmentation'])


def test_occluded_objects_and_all_aspects_occur(instances):
    """What is left of an object to see has several parts."""
    parts = [len(annotation['segmentation']) for annotation in instances['annotations']]
    assert 0.6 < parts.count(1) / len(parts) < 0.98
    assert {(image['width'], image['height']) for image in instances['images']} == {(128, 128), (128, 96), (96, 128)}


def test_masks_are_where_the_color_is(folder, instances, scenes):
    """Silhouettes read off the picture by color alone agree with the stored masks of plain, free-standing objects."""
    annotations = {annotation['id']: annotation for annotation in instances['annotations']}
    ious = []
    for image in instances['images'][:100]:
        pixels = np.asarray(Image.open(folder / 'images' / image['file_name'])).astype(float)
        assert pixels.shape == (image['height'], image['width'], 3)
        scene = scenes[image['id']]
        for obj in scene['objects']:
            x0, y0, x1, y1 = obj['box']
            window = (slice(int(y0) - 1, int(y1) + 2), slice(int(x0) - 1, int(x1) + 2))
            mask = draw(annotations[obj['ann_id']], image)
            others = [annotations[other['ann_id']] for other in scene['objects'] if other is not obj]
            if obj['texture'] != 'plain' or any(draw(other, image)[window].any() for other in others):
                continue
            to_object = np.linalg.norm(pixels[window] - obj['rgb'], axis=-1)
            to_ground = np.min([np.linalg.norm(pixels[window] - end, axis=-1) for end in scene['background']], axis=0)
            seen = to_object < to_ground
            ious.append((seen & mask[window]).sum() / (seen | mask[window]).sum())
    assert len(ious) > 100
    assert np.mean(ious) > 0.96 and np.min(ious) > 0.85


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_rectangles_are_drawn_as_their_mask(mask):
    """Holes, corners that touch, and the edges of the image among it; each reader sees the same."""
    rectangles, (height, width) = as_rectangles(mask), mask.shape
    if rectangles:
        assert (draw(dict(segmentation=rectangles), dict(height=height, width=width)) == mask).all()
        assert encode_segmentation(rectangles, height, width) == encode_mask(mask)
    else:
        assert not mask.any()


@pytest.mark.parametrize('rules, counts', [(ORDINARY, {3, 4, 5, 6}), (HARD, {6, 7, 8, 9, 10})])
def test_visible_masks(rules, counts):
    for seed in range(60):
        scene = shapes.sample_scene(np.random.default_rng(seed), 160, rules)
        masks = visible_masks(scene)
        assert len(masks) in counts
        assert np.sum(masks, axis=0).max() == 1, 'no pixel belongs to two objects'
        assert (np.any(masks, axis=0) == np.any([obj.mask for obj in scene.objects], axis=0)).all()
        for obj, mask in zip(scene.objects, masks):
            assert not (mask & ~obj.mask).any()
            assert mask.sum() >= 0.75 * obj.mask.sum()


def test_size_classes_are_clearly_distinct(scenes):
    shares = {size: [] for size in shapes.SIZES}
    for scene in scenes.values():
        for obj in scene['objects']:
            shares[obj['size']].append(obj['extent'] / max(scene['height'], scene['width']))
    assert max(shares['small']) * 1.38 < min(shares['medium'])
    assert max(shares['medium']) * 1.38 < min(shares['large'])


def test_refcoco_dataset_reads_it(folder, refs, instances):
    dataset = RefCOCODataset(
        data_root=str(folder), ann_file='shapes/instances.json', refs_file='shapes/refs(unc).p', split='val',
        data_prefix=dict(img_path='images/'), test_mode=True,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadReferringMask')])  # fmt: skip
    sentences = [sentence for ref in refs if ref['split'] == 'val' for sentence in ref['sentences']]
    items = [dataset[i] for i in range(len(dataset))]
    assert [(item['text'], item['kind']) for item in items] == [(s['sent'], s['kind']) for s in sentences]
    annotations = {annotation['id']: annotation for annotation in instances['annotations']}
    assert any(len(annotations[item['ann_id']]['segmentation']) > 1 for item in items)
    assert all(np.array_equal(item['gt_seg_map'], draw(annotations[item['ann_id']], item)) for item in items)
