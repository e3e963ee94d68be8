import os
import pickle
import tracemalloc

import pytest

from dit_sam.datasets.reference_files import load_plain_pickle, load_refs

REFS = [
    dict(ref_id=1, ann_id=2, image_id=3, category_id=4, split='train', sentences=[dict(sent_id=5, sent='the café')])
]


def python2_pickle(value, encoding: str = 'utf-8') -> bytes:
    """The opcodes that Python 2 writes for `dict`, `list`, `int` and its `str`, which is bytes."""
    if isinstance(value, dict):
        items = b''.join(
            python2_pickle(key, encoding) + python2_pickle(item, encoding) + b's' for key, item in value.items()
        )
        return b'(d' + items
    if isinstance(value, list):
        return b'(l' + b''.join(python2_pickle(item, encoding) + b'a' for item in value)
    if isinstance(value, int):
        return b'I%d\n' % value
    text = value.encode(encoding)
    return b'U' + bytes([len(text)]) + text


def write(tmp_path, data: bytes) -> str:
    path = tmp_path / 'refs(unc).p'
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_every_protocol(tmp_path, protocol):
    assert load_refs(write(tmp_path, pickle.dumps(REFS, protocol=protocol))) == REFS


@pytest.mark.parametrize('encoding', ['utf-8', 'latin-1'])
def test_reads_python2_strings(tmp_path, encoding):
    assert load_refs(write(tmp_path, python2_pickle(REFS, encoding) + b'.')) == REFS


class Command:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_is_run(tmp_path, protocol):
    trace = tmp_path / 'trace'
    path = write(tmp_path, pickle.dumps([Command(f'touch {trace}')], protocol=protocol))
    with pytest.raises(ValueError, match=r'refs\(unc\)\.p is not a plain pickle.*global "(posix|nt)\.system"'):
        load_refs(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    'stream, reason',
    [
        (b'cos\nsystem\n.', 'global "os.system"'),
        (b"(S'ls'\nios\nsystem\n.", 'global "os.system"'),
        (b'cbuiltins\neval\n.', 'global "builtins.eval"'),
        (b'cnumpy\nndarray\n.', 'global "numpy.ndarray"'),
        (b'\x82\x01.', 'extension code 1'),
        (b'P1\n.', "persistent id '1'"),
    ],
)
def test_refuses_every_lookup(tmp_path, stream, reason):
    with pytest.raises(ValueError, match='not a plain pickle') as caught:
        load_plain_pickle(write(tmp_path, stream))
    assert reason in str(caught.value)


def test_a_name_with_line_breaks_stays_one_line(tmp_path):
    stream = b'\x80\x04\x8c\x04os\n\x1b\x8c\x06system\x93.'
    with pytest.raises(ValueError, match=r'global "os\\n\\u001b\.system"') as caught:
        load_plain_pickle(write(tmp_path, stream))
    assert len(str(caught.value).splitlines()) == 1


def nested(depth: int) -> bytes:
    """A tuple in a tuple in a tuple, as a key: in C its hash overflows the stack."""
    return b'\x80\x02})' + b'\x85' * depth + b'Ns.'


def doubled(times: int) -> bytes:
    """A tuple that holds one twice, that holds one twice, as a key: its hash visits 2^times of them."""
    return (
        b'\x80\x02})q\x00'
        + b''.join(b'0h%bh%b\x86q%b' % (n, n, n1) for n, n1 in ((bytes([i]), bytes([i + 1])) for i in range(times)))
        + b'Ns.'
    )


@pytest.mark.parametrize(
    'data, reason',
    [
        (nested(100_000), "unhashable type: 'list'"),
        (doubled(60), "unhashable type: 'list'"),
        (b'\x80\x02K\x01Q.', 'an instruction that plain data does not need'),  # any object as a persistent id
        (b'\x80\x02}}b.', 'an instruction that plain data does not need'),
        (b'\x80\x02X\x02\x00\x00\x00os)R.', 'an instruction that plain data does not need'),
        (b'\x80\x04(\x91.', 'an instruction that plain data does not need'),
        (pickle.dumps(REFS, protocol=2)[:-1], 'it ends too early'),
        (b'\x80\x04\x8e' + (1 << 33).to_bytes(8, 'little') + b'.', 'it ends too early'),  # says that 8 GB follow
    ],
)
def test_hostile_file_does_not_crash_or_hang(tmp_path, data, reason):
    with pytest.raises(ValueError, match='not a plain pickle') as caught:
        load_refs(write(tmp_path, data))
    assert reason in str(caught.value)


@pytest.mark.parametrize('data', [b'\x80\x02]r\xff\xff\xff\x07.', b'(lp134217727\n.'])
def test_a_large_memo_number_takes_no_memory(tmp_path, data):
    """In C entry 2^27 - 1 makes a table of 2 GB."""
    path = write(tmp_path, data)
    tracemalloc.start()
    assert load_plain_pickle(path) == []
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_tuples_become_lists(tmp_path):
    value = [(), (1,), (1, 'a'), (1, 2, 3), (1, 2, 3, (4, 5))]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = write(tmp_path, pickle.dumps(value, protocol=protocol))
        assert load_plain_pickle(path) == [[], [1], [1, 'a'], [1, 2, 3], [1, 2, 3, [4, 5]]]


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'{"ref_id": 1}',
        bytes(range(256)),
        pickle.dumps(REFS)[:-20],
        b'\x80\x04\x8e' + (1 << 60).to_bytes(8, 'little') + b'.',  # says that 2^60 bytes follow
        b'X\x02\x00\x00\x00\xc3\x28.',  # text that is not UTF-8
    ],
)
def test_damaged_file_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r'refs\(unc\)\.p is not a plain pickle'):
        load_refs(write(tmp_path, data))


@pytest.mark.parametrize(
    'refs, message',
    [
        (dict(), 'expected a list of references, got dict'),
        ([REFS[0], 7], 'item 1: expected a dict, got int'),
        ([{key: value for key, value in REFS[0].items() if key != 'split'}], 'item 0 has no key "split"'),
        ([dict(REFS[0], split=1)], 'item 0: "split" must be text, got 1'),
        ([dict(REFS[0], ann_id=[2])], 'item 0: "ann_id" must be a number or text, got [2]'),
        ([dict(REFS[0], sentences='the cat')], 'item 0: "sentences" must be a list, got'),
        ([dict(REFS[0], sentences=[dict(sent_id=5)])], 'item 0, sentence 0 has no key "sent"'),
        ([dict(REFS[0], sentences=[dict(sent_id=5, sent=None)])], 'item 0, sentence 0: "sent" must be text'),
    ],
)
def test_wrong_structure_is_named(tmp_path, refs, message):
    path = write(tmp_path, pickle.dumps(refs))
    with pytest.raises(ValueError) as caught:
        load_refs(path)
    assert str(caught.value).startswith(path) and message in str(caught.value)
