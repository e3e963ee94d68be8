import os
import pickle

import pytest
from dit_sam.datasets.safe_pickle import load_plain_pickle, load_refs

REFS = [
    dict(ref_id=1, ann_id=2, image_id=3, category_id=4, split='train', sentences=[dict(sent_id=5, sent='the café')])
]


def python2_pickle(value, encoding: str = 'utf-8') -> bytes:
    """The opcodes that Python 2 writes for ``dict``, ``list``, ``int`` and its ``str``, which is bytes."""
    if isinstance(value, dict):
        items = b''.join(python2_pickle(key, encoding) + python2_pickle(item, encoding) + b's'
                         for key, item in value.items())
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
        return os.system, (self.command, )


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_runs_nothing(tmp_path, protocol):
    trace = tmp_path / 'trace'
    path = write(tmp_path, pickle.dumps([Command(f'touch {trace}')], protocol=protocol))
    with pytest.raises(ValueError, match=r'refs\(unc\)\.p is not a plain pickle.*global "(posix|nt)\.system"'):
        load_refs(path)
    assert not trace.exists()


@pytest.mark.parametrize('stream, reason', [
    (b'cos\nsystem\n.', 'global "os.system"'),
    (b"(S'ls'\nios\nsystem\n.", 'global "os.system"'),
    (b'cbuiltins\neval\n.', 'global "builtins.eval"'),
    (b'cnumpy\nndarray\n.', 'global "numpy.ndarray"'),
    (b'\x82\x01.', 'extension code 1'),
    (b'P1\n.', "persistent id '1'"),
])
def test_refuses_every_lookup(tmp_path, stream, reason):
    with pytest.raises(ValueError, match='not a plain pickle') as caught:
        load_plain_pickle(write(tmp_path, stream))
    assert reason in str(caught.value)


@pytest.mark.parametrize('data', [
    b'',
    b'{"ref_id": 1}',
    bytes(range(256)),
    pickle.dumps(REFS)[:-20],
    b'\x80\x04\x8e' + (1 << 60).to_bytes(8, 'little') + b'.',  # says that 2^60 bytes follow
    b'X\x02\x00\x00\x00\xc3\x28.',  # text that is not UTF-8
])
def test_damaged_file_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r'refs\(unc\)\.p is not a plain pickle'):
        load_refs(write(tmp_path, data))


@pytest.mark.parametrize('refs, message', [
    (dict(), 'expected a list of references, got dict'),
    ([REFS[0], 7], 'item 1: expected a dict, got int'),
    ([{key: value for key, value in REFS[0].items() if key != 'split'}], 'item 0 has no key "split"'),
    ([dict(REFS[0], split=1)], 'item 0: "split" must be text, got int'),
    ([dict(REFS[0], ann_id=[2])], 'item 0: "ann_id" must be a number, got list'),
    ([dict(REFS[0], sentences='the cat')], 'item 0: "sentences" must be a list, got str'),
    ([dict(REFS[0], sentences=[dict(sent_id=5)])], 'item 0, sentence 0 has no key "sent"'),
    ([dict(REFS[0], sentences=[dict(sent_id=5, sent=None)])], 'item 0, sentence 0: "sent" must be text'),
])
def test_wrong_structure_is_named(tmp_path, refs, message):
    path = write(tmp_path, pickle.dumps(refs))
    with pytest.raises(ValueError) as caught:
        load_refs(path)
    assert str(caught.value).startswith(path) and message in str(caught.value)
