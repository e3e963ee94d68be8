"""The folder of a running page: uploads, examples and answers, which must not outlive it."""

import os
import os.path as osp
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore

PREFIX, LOCK = 'dit_sam_web_', 'lock'
# A service or container is stopped, a terminal is closed, Ctrl-Break on Windows.
SIGNALS = ('SIGTERM', 'SIGHUP', 'SIGBREAK')


@contextmanager
def page_folder() -> Iterator[str]:
    """A new temporary folder, deleted at the end; what pages left that were killed is deleted first."""
    remove_left_folders()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        lock = _lock(osp.join(folder, f'{LOCK}.new'))
        # Only now others see it: a file that is not locked yet would be that of a killed page.
        os.replace(osp.join(folder, f'{LOCK}.new'), osp.join(folder, LOCK))
        try:
            yield folder
        finally:
            os.close(lock)


def _lock(path: str) -> int:
    """Make or open a file and lock it as long as this process lives, even if it is killed.

    A lock tells a process that is gone from one of another container, and from a later one with the same number.

    Raises:
        OSError: Another process has locked it, or the file system has no locks.
    """
    # The number of the process is for people.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(path, os.write(descriptor, f'{os.getpid()}\n'.encode()))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_left_folders() -> None:
    """Delete the folders of this user's pages that were killed. On Windows they stay."""
    if not fcntl:
        return
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            # Whatever cannot be opened, locked or deleted is not a left folder of this user.
            with suppress(OSError):
                owner = entry.stat(follow_symlinks=False)
                if not (entry.name.startswith(PREFIX) and stat.S_ISDIR(owner.st_mode) and owner.st_uid == os.getuid()):
                    continue
                if osp.isfile(osp.join(entry.path, LOCK)):
                    lock = _lock(osp.join(entry.path, LOCK))
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(lock)


def end_by_signals() -> None:
    """End the program by `SystemExit` at a signal of `SIGNALS`, so that its folder is deleted."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]

    def end(*_: object) -> None:
        # A closed terminal may send a second one, which would interrupt the deletion.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in numbers:
        # nohup has SIGHUP ignored: the page goes on.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
