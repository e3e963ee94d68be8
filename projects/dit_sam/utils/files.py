"""Files that programs write: checked before the work starts, complete or absent afterward."""

import hashlib
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from ..errors import InputError, printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# The descriptors of the locks of this process.
_held: set[int] = set()


def check_folder(folder: str | Path) -> None:
    """Raise `InputError` if a folder cannot be written to, or could not be created there. Nothing is created."""
    if not str(folder):
        raise InputError('the folder to write to has no name: name one')
    path = Path(folder).absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir():
        raise InputError(f'{folder} cannot be written to: {existing} is a file; name another place')
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f'{folder} cannot be written to: the permissions of {existing} forbid it; name another place')


def check_file(path: str | Path) -> None:
    """Raise `InputError` if a path is a folder or its folder cannot be written to. Nothing is created."""
    if Path(path).is_dir():
        raise InputError(f'{path} is a folder: name a file in it')
    check_folder(Path(path).parent)


def cut_name(text: str, size: int) -> str:
    """The beginning of a text: whole characters, at most `size` bytes."""
    return text.encode(errors='ignore')[:size].decode(errors='ignore')


def name_part(value: object, size: int = 40) -> str:
    """Any value as part of a file name: letters, digits, _ and -, at most `size` bytes."""
    return cut_name(re.sub(r'[^\w-]+', '-', str(value)), size)


@contextmanager
def wrap_write_errors(path: str | Path) -> Iterator[None]:
    """Turn an `OSError` of the block, such as a full disk, into an `InputError` that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f'{path} could not be written: {reason}; make room, or name another place') from error


@contextmanager
def atomic_write(path: str | Path, sync: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path` to write to, and rename it to `path` at the end of the block.

    Missing folders are created. If anything fails, the temporary file is removed and an old `path` stays as it was.
    With `sync` it waits until the content and the name are on the disk.

    Raises:
        FileExistsError: `path` exists, and `overwrite` is False.
        OSError: Writing failed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Unique not only per process: threads may write the same file too. The rest is for `is_writer_dead`.
    temporary = target.with_name(f'.{target.name}.{_machine()}-{os.getpid():x}-{uuid4().hex[:6]}.part')
    try:
        yield temporary
        if sync:
            with open(temporary, 'rb+') as file:
                os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, target)
        else:
            _rename_new(temporary, target)
        if sync:
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Six characters for this machine, or for the container: those have process numbers of their own."""
    try:
        numbers = os.readlink('/proc/self/ns/pid')
    except OSError:
        numbers = ''
    return hashlib.sha256(f'{platform.node()} {numbers}'.encode()).hexdigest()[:6]


def is_writer_dead(temporary: str | Path) -> bool:
    """Whether the process that wrote a temporary file of `atomic_write` has certainly ended.

    It has if it ran on this machine and its number is free. Of other machines nothing is known.
    """
    writer = re.search(r'\.([0-9a-f]{6})-([0-9a-f]+)-[0-9a-f]{6}\.part$', str(temporary))
    # Windows ends a process to which `os.kill` sends anything.
    if writer is None or writer[1] != _machine() or os.name == 'nt':
        return False
    try:
        os.kill(int(writer[2], 16), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # a process of another user
        pass
    return False


@contextmanager
def lock_folder(folder: str | Path, user: str) -> Iterator[int | None]:
    """Keep other processes that call this out of a folder within the block; the folder is created.

    The system releases the lock when the process ends, however it ends. Forked processes, such as data-loading ones, do
    not hold it: they may outlive a killed one by seconds. The file `.lock` stays, because removing it would let two
    processes in.

    Args:
        folder: The folder.
        user: What the error calls the other process, such as 'another training'.

    Yields:
        The descriptor of the lock, which holds it in a program that inherits it; None on Windows and on file systems
        without locks, where nobody is kept out.

    Raises:
        InputError: The folder is locked, or cannot be written to.
    """
    path = Path(folder) / '.lock'
    with wrap_write_errors(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        yield descriptor if _lock(descriptor, folder, user) else None
    finally:
        # It is closed already where a forked process leaves the block.
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)


def _lock(descriptor: int, folder: str | Path, user: str) -> bool:
    """Lock an open file and write into it who holds it; False if there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with suppress(OSError):
            holder = printable(os.pread(descriptor, 300, 0).decode(errors='replace'))
            user += f' ({holder})' if holder.startswith('process ') else ''
        raise InputError(f'{folder} is in use by {user}: stop it first, or name another folder') from error
    except OSError:  # a file system without locks, such as some network and FUSE ones
        return False
    with suppress(OSError):  # a full disk
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'process {os.getpid()} on {platform.node()}'.encode(), 0)
    return True


def _release_in_fork() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_release_in_fork)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8 by `atomic_write`; errors as in `wrap_write_errors`."""
    with wrap_write_errors(path), atomic_write(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def _rename_new(source: Path, target: Path) -> None:
    """Rename a file; raise `FileExistsError` if the name is taken."""
    try:
        # Unlike a renaming, a link fails if another process has just made the file.
        os.link(source, target)
    except OSError:
        # Either the name is taken, or the file system has no links.
        if target.exists():
            raise FileExistsError(f'{target} exists') from None
        os.replace(source, target)


def _sync_folder(folder: Path) -> None:
    # Some file systems refuse to open or to sync a folder; the rename is then as safe as they make it.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
