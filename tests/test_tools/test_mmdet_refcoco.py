"""Errors of tools/dataset_converters/mmdet_refcoco.py; tests/test_mixing has mmdet read its output."""

import resource
from pathlib import Path

import pytest

from dit_sam.datasets import RefCOCODataset

TOOL = 'dataset_converters/mmdet_refcoco.py'


@pytest.fixture
def prepared(write_refcoco, tmp_path, monkeypatch) -> str:
    """A prepared set in the current folder, an unrelated file, and the output of an earlier conversion."""
    root = write_refcoco()
    monkeypatch.chdir(tmp_path)
    RefCOCODataset(root, 'refcoco/instances.json', 'refcoco/refs(unc).p', split='val').table.save('val.safetensors')
    Path('afile').write_text('x')
    for name in ('instances.json', 'refs.p'):
        (tmp_path / 'out').mkdir(exist_ok=True)
        (tmp_path / 'out' / name).write_text('before')
    return 'val.safetensors'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (
            ['none.safetensors', '--out', 'out'],
            'none.safetensors not found; tools/dataset_converters/refcoco.py writes',
        ),
        (['afile', '--out', 'out'], 'afile is damaged or not a .safetensors file'),
        (['val.safetensors', '--out', 'afile'], 'afile cannot be written to: '),
        (
            ['val.safetensors', 'val.safetensors', '--out', 'out'],
            'val.safetensors is named twice: name every file once',
        ),
    ],
)
def test_bad_input_is_one_line(prepared, error_of, arguments, message):
    assert error_of(TOOL, *arguments, alone=True).startswith(message)
    assert [path.read_text() for path in sorted(Path('out').iterdir())] == ['before', 'before']


def test_two_pictures_of_one_number_are_refused(prepared, write_refcoco, error_of):
    """As in files of different collections."""
    content = Path('val.safetensors').read_bytes()
    other = content.replace(b'COCO_train2014_', b'REFC_train2014_')
    assert other != content
    Path('other.safetensors').write_bytes(other)
    line = error_of(TOOL, 'val.safetensors', 'other.safetensors', '--out', 'out')
    assert ' have one number, ' in line and 'convert these files one by one' in line
    assert [path.read_text() for path in sorted(Path('out').iterdir())] == ['before', 'before']


def test_a_full_disk_leaves_both_files_as_they_were(prepared, error_of):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        line = error_of(TOOL, prepared, '--out', 'out', alone=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert line.startswith('out/instances.json could not be written: File too large')
    assert [path.read_text() for path in sorted(Path('out').iterdir())] == ['before', 'before']


def test_if_one_file_cannot_be_written_both_stay(prepared, error_of):
    Path('out/refs.p').unlink()
    Path('out/refs.p').mkdir()
    line = error_of(TOOL, prepared, '--out', 'out', alone=True)
    assert line.startswith('out/refs.p could not be written: Is a directory')
    assert sorted(path.name for path in Path('out').iterdir()) == ['instances.json', 'refs.p']
    assert Path('out/instances.json').read_text() == 'before'
