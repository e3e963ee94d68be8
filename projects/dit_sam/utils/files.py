"""Files that programs write: checked before the work starts, complete or absent afterward."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ..errors import InputError


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
    # Unique not only per process: threads may write the same file too.
    temporary = target.with_name(f'.{target.name}.{uuid4().hex[:8]}.part')
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
