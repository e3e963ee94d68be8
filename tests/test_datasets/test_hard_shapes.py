"""The hard variant of the generated data: its pictures, and a check by a separate solver that sentences are unique."""

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config
from shapes_solver import SWAPPED, answer, is_nested, mirrored, needed
from shapes_tool import hashes, run_tool

from dit_sam.datasets import shapes

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_'
IMAGES = 120


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp('hard') / 'data'
    done = run_tool('--hard', '--out', out, '--images', IMAGES, '--seed', 7, '--workers', 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[5:9] == list(shapes.HARD_KINDS)
    return out


@pytest.fixture(scope='module')
def scenes(folder):
    found = json.loads((folder / 'shapes' / 'scenes.json').read_text())['images']
    return {scene['image_id']: scene for scene in found}


@pytest.fixture(scope='module')
def refs(folder):
    return pickle.loads((folder / 'shapes' / 'refs(unc).p').read_bytes())


@pytest.fixture(scope='module')
def sentences(refs):
    """(sentence, kind, ann_id, image_id) of all."""
    return [
        (sentence['sent'], sentence['kind'], ref['ann_id'], ref['image_id'])
        for ref in refs
        for sentence in ref['sentences']
    ]


def test_every_sentence_has_exactly_one_answer(sentences, scenes):
    for text, _, ann_id, image_id in sentences:
        assert answer(text, scenes[image_id])['ann_id'] == ann_id, (image_id, text)


def test_mirrored_scene_with_swapped_words_has_the_same_answer(sentences, scenes):
    for text, _, ann_id, image_id in sentences:
        swapped = ' '.join(SWAPPED.get(word, word) for word in text.split())
        assert answer(swapped, mirrored(scenes[image_id]))['ann_id'] == ann_id, (image_id, swapped)


def test_kinds(sentences):
    kinds = Counter(kind for _, kind, _, _ in sentences)
    assert all((kind == 'nested') == is_nested(text) for text, kind, _, _ in sentences)
    assert kinds['nested'] / len(sentences) == pytest.approx(0.4, abs=0.05)
    assert all(kinds[kind] / len(sentences) > 0.12 for kind in shapes.KINDS)
    assert len(sentences) / IMAGES > 8.5


def test_most_sentences_need_every_fact(sentences, scenes):
    """For each attribute, place and relation of the target there is an object that has all the others only."""
    facts = [needed(text, scenes[image_id]) for text, _, _, image_id in sentences]
    assert sum(map(any, facts)) / len(facts) > 0.95
    assert sum(map(all, facts)) / len(facts) > 0.6


def test_sentences_fit_the_text_encoder_of_the_small_models(sentences):
    words = {word for text, *_ in sentences for word in text.split()}
    assert words <= set(shapes.VOCABULARY) <= set(Config.fromfile(CONFIGS / 'datasets' / 'shapes.py').vocabulary)
    longest = max(len(text.split()) for text, *_ in sentences)
    # [CLS] and [SEP]
    assert 14 < longest <= Config.fromfile(CONFIGS / 'models' / 'dit_sam_vit-t.py').model.text_encoder.max_length - 2


def test_pictures_hold_many_objects_that_look_alike(refs, scenes):
    assert {len(scene['objects']) for scene in scenes.values()} == {6, 7, 8, 9, 10}
    alike = []
    for ref in refs:
        objects = scenes[ref['image_id']]['objects']
        target = next(obj for obj in objects if obj['ann_id'] == ref['ann_id'])
        alike.append(sum(obj['shape'] == target['shape'] for obj in objects) - 1)
    assert sum(alike) / len(alike) > 3


def test_objects_are_large_enough_to_be_seen(scenes):
    """At least 14 pixels in pictures of 160."""
    for scene in scenes.values():
        for obj in scene['objects']:
            x0, y0, x1, y1 = obj['box']
            assert min(x1 - x0, y1 - y0) > 14


def test_same_bytes_for_any_number_of_workers_and_files_named_as_in_the_ordinary_set(tmp_path):
    for name, workers in (('one', 1), ('two', 2)):
        shapes.write_shapes(tmp_path / name, images=8, seed=3, workers=workers, hard=True)
    shapes.write_shapes(tmp_path / 'ordinary', images=8, seed=3)
    assert hashes(tmp_path / 'one') == hashes(tmp_path / 'two')
    assert set(hashes(tmp_path / 'one')) == set(hashes(tmp_path / 'ordinary'))
    arguments = [
        json.loads((tmp_path / n / 'shapes' / 'summary.json').read_text())['arguments'] for n in ('one', 'ordinary')
    ]
    assert arguments[0] == dict(arguments[1], hard=True)
