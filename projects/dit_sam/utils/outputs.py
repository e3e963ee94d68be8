"""What programs write: looked at before the work, whole or not at all, and one line where it fails."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError


def check_folder(folder: str | Path) -> None:
    """Refuse, before the work, a folder that cannot be written into; nothing is made.

    Raises:
        InputError: It has no name, or it, or where it would be made, is a file or may not be written to.
    """
    if not str(folder):
        raise InputError('the folder to write to has no name: name one')
    path = Path(folder).absolute()
    there = next(one for one in (path, *path.parents) if one.exists())
    if not there.is_dir():
        raise InputError(f'{folder} cannot be written to: {there} is a file; name another place')
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f'{folder} cannot be written to: the permissions of {there} forbid it; name another place')


def check_file(path: str | Path) -> None:
    """Refuse, before the work, a file that cannot be written; as `check_folder`.

    Raises:
        InputError: It is a folder, or its folder cannot be written into.
    """
    if Path(path).is_dir():
        raise InputError(f'{path} is a folder: name a file in it')
    check_folder(Path(path).parent)


def cut_name(text: str, size: int) -> str:
    """At most `size` bytes of a text, whole characters."""
    return text.encode(errors='ignore')[:size].decode(errors='ignore')


def name_part(value: object, size: int = 40) -> str:
    """A value, which may be any text, as a part of a file's name: letters, digits, _ and -, at most `size` bytes."""
    return cut_name(re.sub(r'[^\w-]+', '-', str(value)), size)


@contextmanager
def writing_to(place: str | Path, left: str = '') -> Iterator[None]:
    """Name the place where something is written meanwhile, if that fails; `left` says what became of it.

    Raises:
        InputError: It failed: the disk is full, say.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f'{place} could not be written{left}: {reason}; make room, or name another place') from error


@contextmanager
def atomic_write(path: str | Path, sync: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and rename it to `path` at the end of the block.

    Missing folders are created. If anything fails, the temporary file is removed and an old `path` stays as it was.

    Args:
        path: The file to write.
        sync: Whether to wait until the content and the name are on the disk.

    Raises:
        OSError: Writing failed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f'.{target.name}.{os.getpid()}.part')
    try:
        yield temporary
        if sync:
            with open(temporary, 'rb+') as file:
                os.fsync(file.fileno())
        os.replace(temporary, target)
        if sync:
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """As `atomic_write`, with errors as in `writing_to`."""
    with writing_to(path, ', and nothing of it is left'), atomic_write(path) as temporary:
        yield temporary


def write_whole(path: str | Path, text: str) -> None:
    """Write a text to a file, which appears whole or not at all; errors as in `written_whole`."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding='utf-8')


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse; the rename is then as safe as they make it.
        pass
    finally:
        os.close(descriptor)
