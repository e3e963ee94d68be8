"""Files that appear whole or not at all."""
import builtins
import errno

import pytest
from dit_sam.engine import AtomicLocalBackend
from mmengine.fileio import get_file_backend
from mmengine.runner.checkpoint import save_checkpoint


def test_it_is_the_backend_of_local_paths(tmp_path):
    assert type(get_file_backend(str(tmp_path / 'a.pth'))) is AtomicLocalBackend
    assert type(get_file_backend(str(tmp_path), backend_args=dict(backend='local'))) is AtomicLocalBackend


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    save_checkpoint(dict(state_dict={}), str(path))
    before, real_open = path.read_bytes(), builtins.open

    class Full:
        """A file on a full disk: the first bytes fit, no more."""

        def __init__(self, name, mode):
            self.file = real_open(name, mode)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, data):
            self.file.write(data[:4])
            raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('builtins.open', lambda name, mode='r', *args, **kwargs: Full(name, mode) if mode == 'wb' else
                        real_open(name, mode, *args, **kwargs))
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint(dict(state_dict={}, more=[1] * 1000), str(path))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ['epoch_1.pth']


def test_text_and_new_folders(tmp_path):
    AtomicLocalBackend().put_text('ü', tmp_path / 'new' / 'a.txt')
    assert (tmp_path / 'new' / 'a.txt').read_bytes() == b'\xc3\xbc'
