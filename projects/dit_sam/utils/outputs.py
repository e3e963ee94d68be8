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
def written_whole(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; at the end it takes that of `path`, or is gone where the writing fails.

    Folders are made; what `path` was before stays until then.

    Raises:
        InputError: As `writing_to`.
    """
    target = Path(path)
    aside = target.with_name(f'.{target.name}.{os.getpid()}.part')
    try:
        with writing_to(path, ', and nothing of it is left'):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            os.replace(aside, target)
    finally:
        if aside.exists():
            aside.unlink()


def write_whole(path: str | Path, text: str) -> None:
    """Write a text to a file, which appears whole or not at all; errors as in `written_whole`."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding='utf-8')
