"""How mmengine's runners write and read checkpoint files."""

from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.runner.checkpoint import _load_checkpoint, save_checkpoint

from ..compat import replaced
from ..utils import atomic_write
from ..utils.checkpoints import mapped_files


class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, which writes to a temporary file, syncs it and renames it.

    mmengine writes checkpoints in place, so that a full disk or a killed process destroys the file that was there.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes. On an error the old file stays, and no part of the new one is left."""
        self.write(lambda file: file.write(obj), filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; otherwise like `put`."""
        self.put(obj.encode(encoding), filepath)

    def write(self, fill: Callable[[BinaryIO], object], filepath: str | Path) -> None:
        """Write a file by calling `fill` with an open temporary file; otherwise like `put`."""
        try:
            with atomic_write(filepath, sync=True) as temporary, open(temporary, 'wb') as file:
                fill(file)
        except (OSError, RuntimeError) as error:
            # After an error torch closes its zip file, which raises another error.
            cause = _system_error(error)
            if cause is None:
                raise
            # The error of a full disk does not name the file.
            cause.filename = cause.filename or str(filepath)
            raise cause from None


def use_atomic_local_backend() -> None:
    """Make `AtomicLocalBackend` mmengine's backend for all local paths, for the whole process."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
    # mmengine caches one instance per prefix; earlier ones have its own class.
    backend_instances.clear()


class DeferredRemovalBackend:
    """A file backend whose removals wait for `flush`; everything else is passed on to `backend`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._waiting: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Remove a file at the next `flush`."""
        self._waiting.append(path)

    # DeepSpeed's checkpoints are folders.
    rmtree = remove

    def flush(self, keep: Set[str | None]) -> None:
        """Remove the waiting paths, except those to keep, which have been written again."""
        for path in self._waiting:
            if path not in keep:
                (self._backend.rmtree if self._backend.isdir(path) else self._backend.remove)(path)
        self._waiting.clear()


def stream_checkpoints() -> AbstractContextManager[None]:
    """Have mmengine's runners write local checkpoints straight into their files within the block.

    mmengine (0.10.7) serializes a checkpoint in memory first; for ViT-H this takes 12 GiB on top of the training.
    """
    return _replaced_in_runners('save_checkpoint', _save_streamed)


def runners_map_checkpoints() -> AbstractContextManager[None]:
    """Have runners and mmengine's `load_checkpoint` map the checkpoints that go into a model, within the block.

    `CheckpointLoader.load_checkpoint`, which returns the checkpoint to its caller, still reads it.
    """
    return _replaced_in_runners('_load_checkpoint', _load_mapped)


@contextmanager
def _replaced_in_runners(name: str, function: Callable) -> Iterator[None]:
    # Runner imported the function by name; FlexibleRunner's strategies import it from the second module at each use.
    with replaced('mmengine.runner.runner', name, function), replaced('mmengine.runner.checkpoint', name, function):
        yield


def _save_streamed(
    checkpoint: dict, filename: str, file_client_args: dict | None = None, backend_args: dict | None = None
) -> None:
    backend = None if file_client_args or '://' in filename else get_file_backend(filename, backend_args=backend_args)
    if isinstance(backend, LocalBackend):
        AtomicLocalBackend().write(lambda file: torch.save(checkpoint, file), filename)
    else:
        save_checkpoint(checkpoint, filename, file_client_args, backend_args)


def _load_mapped(filename: str, map_location: Any = None, logger: Any = None) -> dict:
    # Runner asks for the GPU, where weights, averaged weights and Adam's state would lie beside those of the training:
    # 16 bytes per parameter. They go there one by one when they are loaded.
    map_location = 'cpu' if isinstance(map_location, (str, torch.device)) else map_location
    with mapped_files():
        checkpoint = _load_checkpoint(filename, map_location, logger)
    drop_config(checkpoint)
    return checkpoint


def drop_config(checkpoint: Any) -> None:
    """Remove, in place, `config` from the metadata: mmengine's runners run it as a program when they resume.

    They write it as `cfg`, which nothing runs.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        meta.pop('config', None)


def _system_error(error: BaseException | None) -> OSError | None:
    """The first `OSError` among an error and those it was raised from; None if there is none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error
