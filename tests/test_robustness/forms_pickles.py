"""Reference files as pickles."""

import pickle
from pathlib import Path
from random import Random

from fuzzing import Attempt, accepted, cut, damage, either, refused
from subjects import GOOD, REFS, open_set, read_all, reference, write_set

PLAIN = [reference(1), reference(2, text='the café'), reference(3, split='train')]
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
    """Read a reference file with this content, and check all items."""
    trace = folder / 'trace'
    write_set(folder, GOOD, [])
    (folder / REFS).write_bytes(data)
    try:
        read_all(open_set(folder))
    finally:
        assert not trace.exists(), 'something of the file was run'


@accepted('references', 'pickles of protocol 0 to 5', 'the items as written')
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
    'file; nothing in it is run',
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


@either('references', 'random pickle instructions', 'masks for all items, or file; nothing in it is run')
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


@refused('references', 'pickles with false lengths and memo numbers, up to 2^63', 'file')
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


@refused('references', 'pickles truncated at any byte', 'file')
def cut_pickle(rng: Random, folder: Path) -> Attempt:
    data = cut(rng, pickle.dumps(PLAIN, protocol=rng.randint(0, 5)))
    return Attempt(lambda: read_refs(folder, data), (REFS,))


@either('references', 'pickles with changed, removed and added bytes', 'masks for all items, or file')
def damaged_pickle(rng: Random, folder: Path) -> Attempt:
    data = damage(rng, pickle.dumps(PLAIN, protocol=rng.randint(0, 5)))
    return Attempt(lambda: read_refs(folder, data), (REFS,))
