"""The folder of a running page: uploads, examples and answers, which must not outlive it."""

import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from ..utils import lock_folder

PREFIX = 'dit_sam_web_'
# A service or container is stopped, a terminal is closed, Ctrl-Break on Windows.
SIGNALS = ('SIGTERM', 'SIGHUP', 'SIGBREAK')


@contextmanager
def page_folder() -> Iterator[str]:
    """A new temporary folder, deleted at the end; what pages left that were killed is deleted first."""
    remove_left_folders()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, lock_folder(folder, 'another page'):
        yield folder


def remove_left_folders() -> None:
    """Delete the folders of this user's pages that were killed. They stay where there are no locks, as on Windows.

    A lock tells a process that is gone from one of another container, and from a later one with the same number.
    """
    for folder in Path(tempfile.gettempdir()).glob(f'{PREFIX}*'):
        # A folder that is locked or gone is left alone.
        with suppress(InputError, OSError):
            _remove_if_left(folder)


def _remove_if_left(folder: Path) -> None:
    found = folder.lstat()
    own = hasattr(os, 'getuid') and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not (own and (folder / '.lock').is_file()):
        return
    with lock_folder(folder, 'its page') as lock:
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)


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
