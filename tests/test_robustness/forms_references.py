"""Files of references, `refs(*).p` and `grefs(*).json`, and `instances.json`."""

import json
import pickle
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import Attempt, accepted, cut, damage, either, junk, places, put, refused, remove
from subjects import GOOD, INSTANCES, REFS, open_set, read_all, reference, write_set

from dit_sam.datasets import GRefCOCODataset

GREFS = 'grefs(unc).json'
PLAIN = [reference(1), reference(2, text='the café'), reference(3, split='train')]
GENERAL = [
    dict(reference(1, ann_id=[7]), category_id=[1]),
    dict(reference(2, ann_id=[-1]), category_id=[-1], no_target=True),
]
# Nothing of these may run.
HOSTILE = [
    ('os', 'system'),
    ('posix', 'system'),
    ('builtins', 'eval'),
    ('builtins', 'exec'),
    ('builtins', 'open'),
    ('subprocess', 'Popen'),
    ('subprocess', 'check_output'),
    ('runpy', 'run_path'),
    ('pathlib', 'Path.touch'),
    ('builtins', 'getattr'),
    ('importlib', 'import_module'),
    ('numpy', 'ndarray'),
    ('collections', 'OrderedDict'),
    ('_codecs', 'encode'),
    ('copyreg', '_reconstructor'),
    ('nowhere', 'nothing'),
    ('', ''),
]


def plain_set(folder: Path) -> list:
    write_set(folder, GOOD, PLAIN)
    return read_all(open_set(folder))


def read_refs(folder: Path, data: bytes) -> None:
    """Hand over a reference file as bytes; all that it gives is looked at."""
    trace = folder / 'trace'
    write_set(folder, GOOD, [])
    (folder / REFS).write_bytes(data)
    try:
        read_all(open_set(folder))
    finally:
        assert not trace.exists(), 'something of the file was run'


def read_json(folder: Path, name: str, data: bytes | str) -> None:
    """Hand over instances.json or grefs(unc).json; all that it gives is looked at."""
    write_set(folder, GOOD, PLAIN)
    (folder / GREFS).write_text(json.dumps(GENERAL))
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode('utf-8', 'surrogatepass'))
    read_all(open_set(folder, GRefCOCODataset, GREFS) if name == GREFS else open_set(folder))


@accepted('references', 'pickles of protocol 0 to 5', 'the items that were written')
def protocols(rng: Random, folder: Path) -> Attempt:
    texts = [rng.choice(['the box', 'naïve ﬁsh', '箱', 'صندوق', '🟥 box']) for _ in range(rng.randint(1, 5))]
    refs = [reference(number, text=text) for number, text in enumerate(texts)]

    def run() -> None:
        write_set(folder, GOOD, [])
        (folder / REFS).write_bytes(pickle.dumps(refs, protocol=rng.randint(0, pickle.HIGHEST_PROTOCOL)))
        assert [item['text'] for item in read_all(open_set(folder))] == texts

    return Attempt(run)


@refused(
    'references',
    'pickles that call something: 17 functions, 9 ways to call them, at any place',
    'file; nothing of it is run',
)
def hostile(rng: Random, folder: Path) -> Attempt:
    (module, name), trace = rng.choice(HOSTILE), f'touch {folder}/trace'
    argument = b'(' + b'X' + len(trace).to_bytes(4, 'little') + trace.encode() + b't'
    by_name = f'c{module}\n{name}\n'.encode()
    on_stack = b''.join(b'\x8c' + bytes([len(text)]) + text.encode() for text in (module, name)) + b'\x93'
    call = rng.choice(
        [
            by_name + argument + b'R',
            on_stack + argument + b'R',
            by_name + argument + b'\x81',
            on_stack + argument + b'}\x92',
            b'(' + by_name + argument[1:-1] + b'o',
            f'({"S"}{trace!r}\ni{module}\n{name}\n'.encode(),
            by_name + argument + b'b',
            b'\x82\x01' + argument + b'R',
            b'P' + trace.encode() + b'\n',
        ]
    )
    good = pickle.dumps(PLAIN, protocol=2)
    data = rng.choice([call + b'.', b'\x80\x02' + call + b'.', good[:-1] + call + b'0.', b'\x80\x02]' + call + b'a.'])
    return Attempt(lambda: read_refs(folder, data), (REFS,))


@either('references', 'random pickle instructions', 'all items have masks, or the file is named; nothing is run')
def opcodes(rng: Random, folder: Path) -> Attempt:
    codes = [
        getattr(pickle, name)
        for name in dir(pickle)
        if name.isupper() and isinstance(getattr(pickle, name), bytes) and len(getattr(pickle, name)) == 1
    ]
    parts = [
        rng.choice(
            [
                rng.choice(codes),
                rng.choice(codes),
                rng.randbytes(rng.randint(1, 5)),
                b'os\nsystem\n',
                b'\x8c\x02os',
                b'\x8c\x06system',
                b'K\x01',
                b'(',
                b']',
                b'}',
                b'\x8c\x05touch',
            ]
        )
        for _ in range(rng.randint(1, 60))
    ]
    return Attempt(lambda: read_refs(folder, b''.join(parts) + b'.'), (REFS,))


@refused('references', 'pickles with lengths and memo numbers that lie, up to 2^63', 'file')
def lying_lengths(rng: Random, folder: Path) -> Attempt:
    size = rng.choice([2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63])
    code, width = rng.choice(
        [
            (b'X', 4),
            (b'T', 4),
            (b'B', 4),
            (b'\x8b', 4),
            (b'r', 4),
            (b'j', 4),
            (b'\x8d', 8),
            (b'\x8e', 8),
            (b'\x96', 8),
            (b'\x95', 8),
        ]
    )
    data = (
        rng.choice([b'', b']'])
        + code
        + (size % 256**width).to_bytes(width, 'little')
        + rng.randbytes(rng.randint(0, 9))
    )
    return Attempt(lambda: read_refs(folder, data + b'.'), (REFS,))


@refused('references', 'pickles nested 100 to 100,000 deep', 'file', share=0.1)
def deep(rng: Random, folder: Path) -> Attempt:
    depth = rng.choice([100, 1000, 10000, 100000])
    opening, closing = rng.choice([(b']', b'a'), (b'(', b'l'), (b')', b'\x85'), (b'(', b't'), (b'}K\x01', b's')])
    return Attempt(lambda: read_refs(folder, opening * depth + closing * (depth - 1) + b'.'), (REFS,))


@refused('references', 'pickles cut off at any byte', 'file')
def cut_pickle(rng: Random, folder: Path) -> Attempt:
    data = cut(rng, pickle.dumps(PLAIN, protocol=rng.randint(0, 5)))
    return Attempt(lambda: read_refs(folder, data), (REFS,))


@either('references', 'pickles with changed, lost and added bytes', 'all items have masks, or the file is named')
def damaged_pickle(rng: Random, folder: Path) -> Attempt:
    data = damage(rng, pickle.dumps(PLAIN, protocol=rng.randint(0, 5)))
    return Attempt(lambda: read_refs(folder, data), (REFS,))


def spoil(rng: Random, value: Any) -> Any:
    """A copy with one value replaced by junk, or taken away."""
    value = json.loads(json.dumps(value))
    path = rng.choice(list(places(value)))
    if rng.random() < 0.3:
        remove(value, path)
    else:
        put(value, path, junk(rng))
    return value


@either('references', 'pickles with a value replaced or missing', 'all items have masks, or the file is named')
def spoilt_pickle(rng: Random, folder: Path) -> Attempt:
    data = pickle.dumps(spoil(rng, PLAIN), protocol=2)
    return Attempt(lambda: read_refs(folder, data), (REFS,))


@refused('references', 'references without a key that is needed', 'file, reference')
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

    def spoilt_json(rng: Random, folder: Path, name: str = name, good: Any = good) -> Attempt:
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

    refused('references', f'{name} cut off at any byte', 'file')(cut_json)
    either('references', f'{name} with changed, lost and added bytes', 'all items have masks, or the file is named')(
        damaged_json
    )
    either('references', f'{name} with a value replaced or missing', 'all items have masks, or the file is named')(
        spoilt_json
    )
    refused('references', f'other files as {name}: empty, HTML, a pickle, nested 100,000 deep', 'file')(other_json)


@refused('references', 'ids that are numbers in one file and text in the other', 'file, id, both types')
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
    'the items that were written',
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


@refused('references', 'two annotations or two images of one id that differ', 'file, id')
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
