"""The command line that writes shapes."""

import subprocess
import sys

import pytest
from shapes_tool import TOOL, hashes, run_tool

from dit_sam.datasets import shapes


def test_same_arguments_same_bytes_for_any_number_of_workers(tmp_path):
    for name, workers in (('one', 1), ('again', 1), ('two', 2)):
        shapes.write_shapes(tmp_path / name, images=24, seed=3, size=96, workers=workers)
    assert hashes(tmp_path / 'one') == hashes(tmp_path / 'again') == hashes(tmp_path / 'two')
    shapes.write_shapes(tmp_path / 'other', images=24, seed=4, size=96)
    assert hashes(tmp_path / 'one') != hashes(tmp_path / 'other')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['again', 'one', 'other', 'two'], 'nothing left behind'


def test_finished_data_are_kept_and_other_data_are_not_overwritten(tmp_path):
    arguments = ['--out', tmp_path / 'data', '--images', 5, '--size', 96, '--workers', 1]
    first = run_tool(*arguments)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'data').rglob('*')}
    again = run_tool(*arguments)
    assert first.returncode == again.returncode == 0 and first.stdout == again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / 'data').rglob('*')}
    other = run_tool(*arguments, '--seed', 2)
    assert other.returncode == 1 and '"seed": 1' in other.stderr and len(other.stderr.splitlines()) == 1
    summary = tmp_path / 'data' / 'shapes' / 'summary.json'
    summary.write_text(summary.read_text().replace('"generator":', '"generator":9'))
    earlier = run_tool(*arguments)
    assert (
        earlier.returncode == 1
        and 'this data set, written by another version of the generator: remove it' in earlier.stderr
    )


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes.writer, '_dump', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        shapes.write_shapes(tmp_path / 'data', images=1, size=96)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'arguments, status, message',
    [
        (['--images', 0], 2, 'images must be at least 1'),
        (['--images', 2, '--size', 10], 2, 'size must be at least 64'),
        (['--images', 2, '--workers', 0], 2, 'workers must be at least 1'),
        (['--images', 2, '--seed', -1], 2, 'seed must not be negative'),
        (['--hard', '--generalized'], 2, 'a data set is either generalized or hard, not both'),
        (['--images', 2, '--splits', 'train=0.8,val=0.1'], 2, 'must sum to 1, got train=0.8,val=0.1'),
        (['--images', 2, '--splits', 'train=nan'], 2, 'must sum to 1'),
        (['--images', 2, '--splits', 'train'], 2, "--splits takes name=share,name=share, got 'train'"),
        (['--images', 2, '--splits', 'a=0.5,a=0.5'], 2, 'a name twice'),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, arguments, status, message):
    done = run_tool('--out', tmp_path / 'data', *arguments)
    assert done.returncode == status and message in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_traceback_is_printed_before_the_line_if_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv('DIT_SAM_DEBUG', '1')
    done = run_tool('--out', tmp_path / 'data', '--images', 0)
    first, *_, last = done.stderr.splitlines()
    assert done.returncode == 2 and first.startswith('Traceback') and last.startswith('shapes: images must be')


def test_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'file').write_text('mine')
    for out in (tmp_path, tmp_path / 'file', tmp_path / 'file' / 'data'):
        done = run_tool('--out', out, '--images', 1)
        assert done.returncode == 1 and str(tmp_path) in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / 'file').read_text() == 'mine'


def test_tool_does_not_import_torch():
    code = 'import sys; sys.path.insert(0, sys.argv[1]); import shapes; sys.exit("torch" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code, str(TOOL.parent)]).returncode == 0
