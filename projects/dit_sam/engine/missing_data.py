"""Which key of the config names a file that is not there; for data sets of others, whose errors name the path alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from .config_check import SECTIONS


@contextmanager
def missing_data_advice(cfg: Config) -> Iterator[None]:
    """Add the keys that name a missing file or its folder to the error; one that says more than the path passes.

    Raises:
        FileNotFoundError: In place of that of the system.
    """
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None:
            raise
        keys = list(keys_that_name(str(error.filename), {key: cfg[key] for key in SECTIONS & cfg.keys()}))
        if not keys:
            raise
        raise FileNotFoundError(
            f'{error.filename} not found: put it there, or name its place by --cfg-options for '
            f'{" and ".join(sorted(keys))}'
        ) from error


def keys_that_name(path: str, part: Any, prefix: str = '') -> Iterator[str]:
    """The keys below a part of a config whose value is the path or a folder above it."""
    items = part.items() if isinstance(part, Mapping) else enumerate(part)
    for key, value in items:
        if isinstance(value, str) and value and f'{path}/'.startswith(f'{value.rstrip("/")}/'):
            yield f'{prefix}{key}'
        elif isinstance(value, (Mapping, list, tuple)):
            yield from keys_that_name(path, value, f'{prefix}{key}.')
