"""tools/dataset_converters/mmdet_refcoco.py on a bad day; what it writes is read by mmdet in tests/test_mixing."""
import resource
import runpy
from pathlib import Path
from unittest import mock

import pytest
from dit_sam.datasets import RefCOCODataset

TOOL = str(Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'mmdet_refcoco.py')


def error_of(capsys, *arguments) -> str:
    with mock.patch('sys.argv', [TOOL, *map(str, arguments)]), pytest.raises(SystemExit) as exit:
        runpy.run_path(TOOL, run_name='__main__')
    assert exit.value.code == 1
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    return line[len('error: '):]


@pytest.fixture
def prepared(write_refcoco, tmp_path, monkeypatch) -> str:
    """A prepared set in the current folder, a file of something else, and what was converted before."""
    root = write_refcoco()
    monkeypatch.chdir(tmp_path)
    RefCOCODataset(root, 'refcoco/instances.json', 'refcoco/refs(unc).p', split='val').table.save('val.safetensors')
    Path('afile').write_text('x')
    for name in ('instances.json', 'refs.p'):
        (tmp_path / 'out').mkdir(exist_ok=True)
        (tmp_path / 'out' / name).write_text('before')
    return 'val.safetensors'


@pytest.mark.parametrize('arguments, message', [
    (['none.safetensors', '--out', 'out'], 'none.safetensors not found; tools/dataset_converters/refcoco.py writes'),
    (['afile', '--out', 'out'], 'afile is damaged or no .safetensors file'),
    (['val.safetensors', '--out', 'afile'], 'afile cannot be written to: '),
    (['val.safetensors', 'val.safetensors', '--out', 'out'], 'val.safetensors is named twice: name every file once'),
])
def test_bad_input_is_one_line(prepared, capsys, arguments, message):
    assert error_of(capsys, *arguments).startswith(message)
    assert [path.read_text() for path in sorted(Path('out').iterdir())] == ['before', 'before']


def test_a_full_disk_leaves_both_files_as_they_were(prepared, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        line = error_of(capsys, prepared, '--out', 'out')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert line.startswith('out/instances.json could not be written, and nothing of it is left: File too large')
    assert [path.read_text() for path in sorted(Path('out').iterdir())] == ['before', 'before']


def test_where_one_cannot_be_written_the_other_stays_too(prepared, capsys):
    Path('out/refs.p').unlink()
    Path('out/refs.p').mkdir()
    line = error_of(capsys, prepared, '--out', 'out')
    assert line.startswith('out/refs.p could not be written, and nothing of it is left: Is a directory')
    assert sorted(path.name for path in Path('out').iterdir()) == ['instances.json', 'refs.p']
    assert Path('out/instances.json').read_text() == 'before'
