"""Places that are written to: looked at before, named where the writing fails, and nothing good is lost."""

import os
import resource
from collections.abc import Iterator

import pytest

from dit_sam.errors import InputError
from dit_sam.utils import check_file, check_folder, write_whole, writing_to, written_whole


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file grows beyond 1000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_folders_are_refused_before_the_work(tmp_path, monkeypatch):
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
    # To root all is permitted.
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    with pytest.raises(InputError, match=f'the permissions of {tmp_path} forbid it; name another place'):
        check_folder(tmp_path / 'new')


def test_a_full_disk_leaves_what_was_there(tmp_path, full_disk):
    (tmp_path / 'a.json').write_text('before')
    with pytest.raises(InputError, match='a.json could not be written, and nothing of it is left: File too large; '):
        write_whole(tmp_path / 'a.json', 'x' * 2000)
    assert os.listdir(tmp_path) == ['a.json'] and (tmp_path / 'a.json').read_text() == 'before'
    with (
        pytest.raises(InputError, match='^out could not be written: File too large; make room, or name another '),
        writing_to('out'),
    ):
        (tmp_path / 'b').write_bytes(bytes(2000))


def test_files_appear_at_the_end_and_with_their_folders(tmp_path):
    with written_whole(tmp_path / 'new' / 'a') as aside:
        aside.write_text('whole')
        assert os.listdir(tmp_path / 'new') == [aside.name] != ['a']
    assert (tmp_path / 'new' / 'a').read_text() == 'whole' and os.listdir(tmp_path / 'new') == ['a']


def test_other_errors_keep_their_words(tmp_path):
    with pytest.raises(KeyError), written_whole(tmp_path / 'a') as aside:
        aside.touch()
        raise KeyError('x')
    assert not os.listdir(tmp_path)
