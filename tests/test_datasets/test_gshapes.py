"""The generalized data: its format, and a check by a separate solver that every sentence matches its annotation."""

import hashlib
import json
import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import PIL
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import METRICS
from PIL import Image
from refer_rules import draw
from shapes_solver import ATTRIBUTES, EXTREMES, RELATIONS, SINGULAR, SWAPPED, answers, cut, mirrored, solve
from shapes_tool import hashes, run_tool

from dit_sam.datasets import shapes
from dit_sam.datasets.shapes import write_shapes

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / '_base_' / 'datasets'
IMAGES = 300


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('gshapes') / 'data'
    done = run_tool('--generalized', '--out', out, '--images', IMAGES, '--seed', 7, '--size', 96, '--workers', 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[5:10] == list(shapes.GENERALIZED_KINDS)
    return out


@pytest.fixture(scope='module')
def refs(folder):
    return json.loads((folder / 'gshapes' / 'grefs(unc).json').read_text())


@pytest.fixture(scope='module')
def sentences(refs):
    """(sentence, kind, ann_ids, image_id) of all."""
    return [
        (sentence['sent'], sentence['kind'], set(ref['ann_id']) - {-1}, ref['image_id'])
        for ref in refs
        for sentence in ref['sentences']
    ]


@pytest.fixture(scope='module')
def scenes(folder):
    found = json.loads((folder / 'gshapes' / 'scenes.json').read_text())['images']
    return {scene['image_id']: scene for scene in found}


def test_every_sentence_means_exactly_its_annotated_objects(sentences, scenes):
    for text, _, ann_ids, image_id in sentences:
        assert answers(text, scenes[image_id]) == ann_ids, (image_id, text)


def test_mirrored_scene_with_swapped_words_has_the_same_answers(sentences, scenes):
    for text, _, ann_ids, image_id in sentences:
        swapped = ' '.join(SWAPPED.get(word, word) for word in text.split())
        assert answers(swapped, mirrored(scenes[image_id])) == ann_ids, (image_id, swapped)


def test_the_kind_matches_the_number_of_objects(sentences, scenes):
    for text, kind, ann_ids, image_id in sentences:
        if len(ann_ids) == 1:
            assert kind == ('relation' if cut(text, RELATIONS) else 'place' if cut(text, EXTREMES) else 'attribute')
            assert {solve(text, scenes[image_id])} == ann_ids
        else:
            assert kind == ('several' if ann_ids else 'none'), text


def test_shares_of_one_several_and_none(refs, sentences):
    """Of every four references of a picture two mean one object, one several and one none."""
    numbers = Counter(min(len(set(ref['ann_id']) - {-1}), 2) for ref in refs)
    assert numbers == {1: 2 * IMAGES, 2: IMAGES, 0: IMAGES}
    kinds = Counter(kind for _, kind, _, _ in sentences)
    assert set(kinds) == set(shapes.GENERALIZED_KINDS)
    for kind in ('several', 'none'):
        assert kinds[kind] / len(sentences) == pytest.approx(1 / 4, abs=0.02)
    for kind in shapes.KINDS:
        assert kinds[kind] / len(sentences) == pytest.approx(1 / 2 / 3, abs=0.05)


def test_all_words_are_in_the_vocabulary(sentences):
    words = {word for text, *_ in sentences for word in text.split()}
    assert words <= set(shapes.GENERALIZED_VOCABULARY)
    assert shapes.GENERALIZED_VOCABULARY[: len(shapes.VOCABULARY)] == shapes.VOCABULARY
    assert len(set(shapes.GENERALIZED_VOCABULARY)) == len(shapes.GENERALIZED_VOCABULARY)
    assert max(len(text.split()) for text, *_ in sentences) <= 14
    assert len({text for text, *_ in sentences}) > len(sentences) / 2


def test_config_has_the_vocabulary():
    vocabulary = Config.fromfile(CONFIGS / 'gshapes.py').vocabulary
    assert tuple(vocabulary) == ('[PAD]', '[UNK]', '[CLS]', '[SEP]', *shapes.GENERALIZED_VOCABULARY)


def attributes(text):
    return {ATTRIBUTES[word] for word in (SINGULAR.get(word, word) for word in text.split()) if word in ATTRIBUTES}


def test_many_no_target_sentences_name_only_attributes_in_the_picture(sentences, scenes):
    """Each attribute that such a sentence names is that of some object, but no object answers it."""
    near = []
    for text, kind, _, image_id in sentences:
        if kind == 'none':
            shown = {
                (key, obj[key]) for obj in scenes[image_id]['objects'] for key in ('shape', 'colour', 'texture', 'size')
            }
            near.append(attributes(text) <= shown)
    assert sum(near) / len(near) > 0.4


def test_words_alone_hardly_reveal_no_target_sentences(sentences):
    """Naive Bayes over the words of half of the sentences, on the other half: its balanced accuracy is near 1/2."""
    order = np.random.default_rng(0).permutation(len(sentences))
    known, asked = ([sentences[i] for i in half] for half in np.array_split(order, 2))
    counts = {none: Counter() for none in (True, False)}
    totals = Counter(kind == 'none' for _, kind, _, _ in known)
    for text, kind, _, _ in known:
        counts[kind == 'none'].update(set(text.split()))

    def says_none(words):
        shares = {
            none: [(counts[none][word] + 1) / (totals[none] + 2) for word in shapes.GENERALIZED_VOCABULARY]
            for none in counts
        }
        present = [word in words for word in shapes.GENERALIZED_VOCABULARY]
        scores = {
            none: sum(math.log(share if here else 1 - share) for share, here in zip(shares[none], present))
            for none in shares
        }
        return scores[True] > scores[False]

    right = {
        none: [says_none(text.split()) == none for text, kind, _, _ in asked if (kind == 'none') == none]
        for none in counts
    }
    assert sum(sum(answered) / len(answered) for answered in right.values()) / 2 < 0.65


def test_references_have_the_format_of_grefcoco(folder, refs):
    content = json.loads((folder / 'gshapes' / 'instances.json').read_text())
    annotations = {annotation['id']: annotation for annotation in content['annotations']}
    for ref in refs:
        assert list(ref) == ['sent_ids', 'file_name', 'ann_id', 'ref_id', 'image_id', 'split', 'sentences',
                             'category_id']  # fmt: skip
        assert ref['sent_ids'] == [sentence['sent_id'] for sentence in ref['sentences']]
        found = [annotations[ann_id] for ann_id in ref['ann_id'] if ann_id != -1]
        assert all(annotation['image_id'] == ref['image_id'] for annotation in found)
        assert ref['category_id'] == ([annotation['category_id'] for annotation in found] or [-1])
        assert found or ref['ann_id'] == [-1]
    assert len({ref['ref_id'] for ref in refs}) == len(refs)
    assert len({sent_id for ref in refs for sent_id in ref['sent_ids']}) == sum(len(ref['sentences']) for ref in refs)


def test_pictures_equal_those_of_the_plain_set_for_any_number_of_workers(tmp_path):
    for name, workers in (('one', 1), ('two', 2)):
        shapes.write_shapes(tmp_path / name, images=16, seed=3, size=96, workers=workers, generalized=True)
    shapes.write_shapes(tmp_path / 'plain', images=16, seed=3, size=96)
    written, plain = hashes(tmp_path / 'one'), hashes(tmp_path / 'plain')
    assert written == hashes(tmp_path / 'two')
    assert sorted(set(written) - set(plain)) == [
        f'gshapes/{name}' for name in ('grefs(unc).json', 'instances.json', 'scenes.json', 'summary.json')
    ]
    assert all(written[name] == plain[name] for name in plain if name.startswith('images/'))
    for name in ('instances.json', 'scenes.json'):
        assert written[f'gshapes/{name}'] == plain[f'shapes/{name}']


# Checksums of the variants: sentences and outlines, and pictures.
CHECKSUMS = dict(
    plain=('706378d6c5b0ac34', 'e9bcc10fcfbfa190'),
    generalized=('84d6b7c76a5b5a06', 'e9bcc10fcfbfa190'),
    hard=('9c5ac02e1dc6887d', '55f5b75d5e4b2c8e'),
)


@pytest.mark.parametrize('variant', CHECKSUMS)
def test_a_seed_always_gives_the_same_data(tmp_path, variant):
    """Published scores refer to data by seed. Intended changes of the data increase GENERATOR_VERSION.

    Pictures are compared only with the tested numpy and Pillow, because other versions may round differently.
    """
    options = {} if variant == 'plain' else {variant: True}
    write_shapes(tmp_path / 'data', images=150, seed=11, size=96, **options)
    said, pictures = hashlib.sha256(), hashlib.sha256()
    for path in sorted((tmp_path / 'data').rglob('*')):
        if path.suffix == '.png':
            pictures.update(np.asarray(Image.open(path)).tobytes())
        elif path.is_file():
            content = pickle.loads(path.read_bytes()) if path.suffix == '.p' else json.loads(path.read_text())
            said.update(json.dumps(content, sort_keys=True).encode())
    expected_said, expected_pictures = CHECKSUMS[variant]
    assert said.hexdigest()[:16] == expected_said
    tested = (ROOT / 'requirements' / 'constraints.txt').read_text().splitlines()
    if {f'numpy=={np.__version__}', f'pillow=={PIL.__version__}'} <= set(tested):
        assert pictures.hexdigest()[:16] == expected_pictures


def test_the_other_variant_is_not_overwritten(tmp_path):
    arguments = ['--out', tmp_path / 'data', '--images', 3, '--size', 96, '--workers', 1]
    first = run_tool(*arguments, '--generalized')
    again = run_tool(*arguments, '--generalized')
    other = run_tool(*arguments)
    assert first.returncode == again.returncode == 0 and first.stdout == again.stdout
    assert other.returncode == 1 and '"generalized": true' in other.stderr and len(other.stderr.splitlines()) == 1


@pytest.fixture
def samples(folder):
    """All samples of the split `val` by the config's pipeline."""
    loader = Config.fromfile(CONFIGS / 'gshapes.py').val_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(folder)
    return [sample for batch in Runner.build_dataloader(loader, seed=0) for sample in batch['data_samples']]


def test_config_scores_every_kind(samples):
    """Empty predictions are right for sentences without a target, and score 0 otherwise."""
    metric = METRICS.build(Config.fromfile(CONFIGS / 'gshapes.py').val_evaluator)
    metric.process(
        {}, [dict(pred_sem_seg=dict(data=sample.gt_sem_seg.data * 0), **sample.to_dict()) for sample in samples]
    )
    scores = metric.evaluate(len(samples))
    assert (scores['N-acc'], scores['T-acc']) == (100, 0)
    assert {kind: scores[f'gIoU/{kind}'] for kind in shapes.GENERALIZED_KINDS} == dict(
        attribute=0, place=0, relation=0, several=0, none=100
    )


def test_config_gives_the_union_of_the_masks(folder, refs, samples):
    """As REFER's rules draw them."""
    content = json.loads((folder / 'gshapes' / 'instances.json').read_text())
    annotations = {annotation['id']: annotation for annotation in content['annotations']}
    images = {image['id']: image for image in content['images']}
    expected = [(sentence, ref) for ref in refs if ref['split'] == 'val' for sentence in ref['sentences']]
    assert [(sample.text, sample.kind) for sample in samples] == [(item['sent'], item['kind']) for item, _ in expected]
    for sample, (sentence, ref) in zip(samples, expected):
        mask, image = sample.gt_sem_seg.data[0].numpy(), images[ref['image_id']]
        # No pixel belongs to two objects.
        parts = [draw(annotations[ann_id], image) for ann_id in ref['ann_id'] if ann_id != -1]
        assert np.array_equal(mask, np.sum([np.zeros_like(mask), *parts], axis=0)), sentence['sent']
