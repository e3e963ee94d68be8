"""Atomic writes: files appear whole or not at all."""

import ctypes
import re
import resource
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.fileio import get_file_backend

from dit_sam.mmengine_extras import AtomicLocalBackend
from dit_sam.mmengine_extras.checkpoint_io import runners_map_checkpoints, stream_checkpoints
from dit_sam.mmengine_extras.diagnostics import one_line_errors


def test_local_paths_use_the_atomic_backend(tmp_path):
    assert type(get_file_backend(str(tmp_path / 'a.pth'))) is AtomicLocalBackend
    assert type(get_file_backend(str(tmp_path), backend_args=dict(backend='local'))) is AtomicLocalBackend


@pytest.fixture
def full_disk():
    """Limit files to 4096 bytes: the first bytes fit, then the kernel returns an error, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize('way', [nullcontext, stream_checkpoints])
@pytest.mark.parametrize('more', [[1] * 10000, torch.ones(100000)], ids=['list', 'tensor'])
def test_a_full_disk_leaves_existing_files(tmp_path, full_disk, way, more):
    path = tmp_path / 'epoch_1.pth'
    with way():
        mmengine.runner.checkpoint.save_checkpoint(dict(state_dict={}), str(path))
        before = path.read_bytes()
        with pytest.raises(OSError, match='File too large.*epoch_1.pth'):
            mmengine.runner.checkpoint.save_checkpoint(dict(state_dict={}, more=more), str(path))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ['epoch_1.pth']


def test_a_checkpoint_goes_to_disk_without_a_copy_in_memory(tmp_path):
    """mmengine's own way takes 64 MB more for one of 64 MB."""
    checkpoint = dict(state_dict=dict(weight=torch.ones(2**24)))

    def peak(*contexts) -> int:
        # What earlier tests have freed goes back to the system, or it would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')
        status = dict(line.split(':\t') for line in Path('/proc/self/status').read_text().splitlines())
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            # By the module, as the strategies of FlexibleRunner do.
            mmengine.runner.checkpoint.save_checkpoint(checkpoint, str(tmp_path / 'a.pth'))
        after = dict(line.split(':\t') for line in Path('/proc/self/status').read_text().splitlines())
        return (int(after['VmHWM'].split()[0]) - int(status['VmRSS'].split()[0])) // 1024

    assert peak() >= 60
    assert peak(stream_checkpoints()) <= 10
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert torch.equal(loaded['state_dict']['weight'], checkpoint['state_dict']['weight'])
    assert mmengine.runner.checkpoint.save_checkpoint is mmengine.runner.save_checkpoint


def test_a_runner_does_not_load_a_whole_checkpoint_to_the_gpu(tmp_path):
    """Shown by the device without memory."""
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'weights.pth')
    with runners_map_checkpoints():
        found = mmengine.runner.runner._load_checkpoint(str(tmp_path / 'weights.pth'), map_location='meta')
    assert found['weight'].tolist() == [1, 1]


def test_a_file_is_replaced_not_overwritten(tmp_path):
    """Readers of the old file keep it; a kill at any moment leaves either the old file or the new one."""
    path = tmp_path / 'epoch_1.pth'
    AtomicLocalBackend().put(b'old', path)
    with open(path, 'rb') as file:
        AtomicLocalBackend().put(b'new', path)
        assert (file.read(), path.read_bytes()) == (b'old', b'new')


def test_text_and_new_folders(tmp_path):
    AtomicLocalBackend().put_text('ü', tmp_path / 'new' / 'er' / 'a.txt')
    assert (tmp_path / 'new' / 'er' / 'a.txt').read_bytes() == b'\xc3\xbc'


def test_a_file_size_limit_is_a_one_line_error(tmp_path, full_disk, capsys):
    with pytest.raises(SystemExit), one_line_errors():
        AtomicLocalBackend().put(bytes(8192), tmp_path / 'epoch_1.pth')
    said = capsys.readouterr().err
    assert re.fullmatch(r'error: a file is larger than the system allows \(.*epoch_1.pth\): make room.*\n', said)


def test_a_full_disk_is_a_one_line_error(capsys):
    with pytest.raises(SystemExit), one_line_errors(), open('/dev/full', 'wb', buffering=0) as file:
        file.write(b'a checkpoint')
    said = capsys.readouterr().err
    assert re.fullmatch('error: the disk is full: make room.*--resume continues from the newest\n', said)


def test_ctrl_c_ends_in_one_line_and_by_the_signal(capsys, monkeypatch):
    """Python itself ends by the signal where the exception leaves the program."""
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    with pytest.raises(KeyboardInterrupt) as stopped, one_line_errors():
        raise KeyboardInterrupt
    sys.excepthook(KeyboardInterrupt, stopped.value, None)
    assert capsys.readouterr().err == 'stopped by Ctrl-C\n'
