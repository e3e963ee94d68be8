"""Reference files with wrong values, and gRefCOCO's as JSON."""

import json
import pickle
from pathlib import Path
from random import Random
from typing import Any

from forms_pickles import PLAIN, read_refs
from fuzzing import Attempt, accepted, cut, damage, either, junk, places, put, refused, remove
from subjects import GOOD, INSTANCES, REFS, open_set, read_all, reference, write_set

from dit_sam.datasets import GRefCOCODataset

GREFS = 'grefs(unc).json'
GENERAL = [
    dict(reference(1, ann_id=[7]), category_id=[1]),
    dict(reference(2, ann_id=[-1]), category_id=[-1], no_target=True),
]


def read_json(folder: Path, name: str, data: bytes | str) -> None:
    """Read instances.json or grefs(unc).json with this content, and check all items."""
    write_set(folder, GOOD, PLAIN)
    (folder / GREFS).write_text(json.dumps(GENERAL))
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode('utf-8', 'surrogatepass'))
    read_all(open_set(folder, GRefCOCODataset, GREFS) if name == GREFS else open_set(folder))


def spoil(rng: Random, value: Any) -> Any:
    """A copy with one value replaced by junk, or removed."""
    value = json.loads(json.dumps(value))
    path = rng.choice(list(places(value)))
    if rng.random() < 0.3:
        remove(value, path)
    else:
        put(value, path, junk(rng))
    return value


@either('references', 'pickles with a value replaced or missing', 'masks for all items, or file')
def spoiled_pickle(rng: Random, folder: Path) -> Attempt:
    data = pickle.dumps(spoil(rng, PLAIN), protocol=2)
    return Attempt(lambda: read_refs(folder, data), (REFS,))


@refused('references', 'references without a required key', 'file, reference')
def no_key(rng: Random, folder: Path) -> Attempt:
    refs = json.loads(json.dumps(PLAIN))
    ref, key = rng.choice(
        [(refs[0], key) for key in refs[0]] + [(refs[1]['sentences'][0], key) for key in ('sent', 'sent_id')]
    )
    del ref[key]
    return Attempt(lambda: read_refs(folder, pickle.dumps(refs)), (REFS, 'item', f'"{key}"'))


for name, good in ((INSTANCES, GOOD), (GREFS, GENERAL)):

    def cut_json(rng: Random, folder: Path, name: str = name, good: Any = good) -> Attempt:
        return Attempt(lambda data=cut(rng, json.dumps(good).encode()): read_json(folder, name, data), (name,))

    def damaged_json(rng: Random, folder: Path, name: str = name, good: Any = good) -> Attempt:
        return Attempt(lambda data=damage(rng, json.dumps(good).encode()): read_json(folder, name, data), (name,))

    def spoiled_json(rng: Random, folder: Path, name: str = name, good: Any = good) -> Attempt:
        return Attempt(lambda data=json.dumps(spoil(rng, good)): read_json(folder, name, data), (name,))

    def other_json(rng: Random, folder: Path, name: str = name) -> Attempt:
        data = rng.choice(
            [
                b'',
                b'null',
                b'[',
                b'{}',
                b'[[]]',
                b'{"images": 1}',
                b'\xff\xfe',
                b'[1',
                b'9' * 5000,
                b'[' * 10**5,
                b'{"a":' * 10**5,
                b'<html>',
                b'\x00' * 100,
                '"\ud800"'.encode('utf-8', 'surrogatepass'),
                json.dumps(junk(rng)).encode(),
                pickle.dumps(PLAIN),
            ]
        )
        return Attempt(lambda: read_json(folder, name, data), (name,))

    refused('references', f'{name} truncated at any byte', 'file')(cut_json)
    either('references', f'{name} with changed, removed and added bytes', 'masks for all items, or file')(damaged_json)
    either('references', f'{name} with a value replaced or missing', 'masks for all items, or file')(spoiled_json)
    refused('references', f'other files as {name}: empty, HTML, a pickle, nested 100,000 deep', 'file')(other_json)


@refused('references', 'ids that are numbers in one file and strings in the other', 'file, id, both types')
def types_of_ids(rng: Random, folder: Path) -> Attempt:
    instances, refs = json.loads(json.dumps(GOOD)), [reference()]
    record, key = rng.choice(
        [
            (refs[0], 'ann_id'),
            (refs[0], 'image_id'),
            (instances['images'][0], 'id'),
            (instances['annotations'][0], 'id'),
            (instances['annotations'][0], 'image_id'),
        ]
    )
    number = record[key]
    record[key] = str(number)

    def run() -> None:
        write_set(folder, instances, refs)
        read_all(open_set(folder))

    return Attempt(run, (INSTANCES, str(number), 'int', 'str'))


@accepted(
    'references',
    'annotations and images that nothing refers to, with a value replaced or missing',
    'the items as written',
)
def unreferenced(rng: Random, folder: Path) -> Attempt:
    instances = json.loads(json.dumps(GOOD))
    for group in ('images', 'annotations'):
        other = dict(instances[group][0], id=99)
        key = rng.choice(list(other))
        other[key] = junk(rng) if key != 'id' else rng.choice([100, [3], {}, None, 'x'])
        if rng.random() < 0.5:
            del other[key]
        instances[group].insert(rng.randint(0, 1), other)

    def run() -> None:
        write_set(folder, instances, PLAIN)
        assert len(read_all(open_set(folder))) == 2

    return Attempt(run)


@refused('references', 'two different annotations or images with the same id', 'file, id')
def twice(rng: Random, folder: Path) -> Attempt:
    instances = json.loads(json.dumps(GOOD))
    group, key, value = rng.choice(
        [
            ('annotations', 'segmentation', [[1, 1, 5, 1, 5, 5]]),
            ('annotations', 'image_id', 4),
            ('images', 'file_name', 'b.png'),
            ('images', 'height', 11),
        ]
    )
    instances[group].insert(rng.randint(0, 1), dict(instances[group][0], **{key: value}))
    number = instances[group][0]['id']
    return Attempt(lambda: read_json(folder, INSTANCES, json.dumps(instances)), (INSTANCES, str(number)))
