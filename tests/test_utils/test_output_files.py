"""Output files: checked early, named if writing fails, and an old file stays until the new one is complete."""

import errno
import os
import resource
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dit_sam.errors import InputError
from dit_sam.utils import (
    atomic_write,
    atomic_write_text,
    check_file,
    check_folder,
    files,
    lock_folder,
    wrap_write_errors,
)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file grows beyond 1000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_unwritable_folders_are_refused_early(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    check_folder(tmp_path / 'new' / 'deep')
    check_file(tmp_path / 'new' / 'a.json')
    assert not (tmp_path / 'new').exists()
    for folder in (tmp_path / 'file', tmp_path / 'file' / 'deep' / 'er'):
        with pytest.raises(InputError, match=f'{folder} cannot be written to: {tmp_path / "file"} is a file; name'):
            check_folder(folder)
    with pytest.raises(InputError, match='the folder to write to has no name'):
        check_folder('')
    with pytest.raises(InputError, match='is a folder: name a file in it'):
        check_file(tmp_path)
    # Root may write everywhere.
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(InputError, match=f'the permissions of {tmp_path} forbid it; name another place'):
        check_folder(tmp_path / 'new')


def test_a_full_disk_leaves_existing_files(tmp_path, full_disk):
    (tmp_path / 'a.json').write_text('before')
    with pytest.raises(InputError, match='a.json could not be written: File too large; '):
        atomic_write_text(tmp_path / 'a.json', 'x' * 2000)
    assert os.listdir(tmp_path) == ['a.json'] and (tmp_path / 'a.json').read_text() == 'before'
    with (
        pytest.raises(InputError, match='^out could not be written: File too large; make room, or name another '),
        wrap_write_errors('out'),
    ):
        (tmp_path / 'b').write_bytes(bytes(2000))


def test_files_appear_at_the_end_and_with_their_folders(tmp_path):
    with atomic_write(tmp_path / 'new' / 'a') as temporary:
        temporary.write_text('complete')
        assert os.listdir(tmp_path / 'new') == [temporary.name] != ['a']
    assert (tmp_path / 'new' / 'a').read_text() == 'complete' and os.listdir(tmp_path / 'new') == ['a']


def test_other_errors_are_not_wrapped(tmp_path):
    with pytest.raises(KeyError), atomic_write(tmp_path / 'a') as temporary:
        temporary.touch()
        raise KeyError('x')
    assert not os.listdir(tmp_path)


def test_an_existing_file_can_be_kept(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError('no links here')

    (tmp_path / 'a').write_text('before')
    for _ in range(2):
        with pytest.raises(FileExistsError), atomic_write(tmp_path / 'a', overwrite=False) as temporary:
            temporary.write_text('after')
        # The second time on a file system without links.
        monkeypatch.setattr(os, 'link', refuse)
    assert os.listdir(tmp_path) == ['a'] and (tmp_path / 'a').read_text() == 'before'
    with atomic_write(tmp_path / 'b', sync=True) as temporary:
        temporary.write_text('synced')
    assert (tmp_path / 'b').read_text() == 'synced'


def test_a_folder_is_for_one_process(tmp_path):
    """Until the end of the block, also by an error; a forked process does not hold the lock longer."""
    message = rf'/run is in use by another training \(process {os.getpid()} on \S+\): stop it first, or name another'
    for _ in range(2):
        with pytest.raises(KeyError), lock_folder(tmp_path / 'run', 'another training'):
            with pytest.raises(InputError, match=message), lock_folder(tmp_path / 'run', 'another training'):
                pass
            raise KeyError
    child = os.fork()
    if not child:
        held = lock_folder(tmp_path / 'killed', 'another training')
        held.__enter__()
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(2)
        os._exit(0)
    os.waitpid(child, 0)
    with lock_folder(tmp_path / 'killed', 'another training') as lock:
        assert lock is not None


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, None])
def test_file_systems_without_locks_keep_nobody_out(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, 'no locks')

    # Windows has no `fcntl`.
    monkeypatch.setattr(files, 'fcntl', number and SimpleNamespace(flock=refuse, LOCK_EX=2, LOCK_NB=4))
    with lock_folder(tmp_path, 'another') as first, lock_folder(tmp_path, 'another') as second:
        assert first is second is None
