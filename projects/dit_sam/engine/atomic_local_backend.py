"""Local files that appear whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO
from unittest import mock

import torch
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.fileio.io import backend_instances
from mmengine.runner.checkpoint import save_checkpoint


@register_backend('local', force=True, prefixes='')
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, whose `put` writes aside, syncs and renames.

    mmengine writes checkpoints straight onto their names, so that a full disk or a killed process destroys the file
    that was there. Importing this module makes it the backend of all local paths.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; an error leaves what was there and nothing half-written."""
        self.write(lambda file: file.write(obj), filepath)

    def write(self, fill: Callable[[BinaryIO], object], filepath: str | Path) -> None:
        """Write what `fill` writes into the file that it gets; as `put`."""
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f'.{target.name}.{os.getpid()}.part')
        try:
            with open(aside, 'wb') as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:
            # torch closes its zip file on the way out, which fails anew with an error of its own.
            cause = _system_error_of(error)
            if cause is None:
                raise
            # What could not be written is the file, and a full disk does not say so.
            cause.filename = cause.filename or str(target)
            raise cause from None
        finally:
            aside.unlink(missing_ok=True)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; as `put`."""
        self.put(obj.encode(encoding), filepath)


@contextmanager
def checkpoints_straight_to_disk() -> Iterator[None]:
    """While it lasts, mmengine's runners write local checkpoints into their files.

    mmengine (0.10.7) makes a checkpoint in memory first, where that of ViT-H takes 12 GiB beside the training.
    """
    with ExitStack() as stack:
        # Runner has it under its own name, the strategies of FlexibleRunner import it at each use.
        for module in ('mmengine.runner.runner', 'mmengine.runner.checkpoint'):
            stack.enter_context(mock.patch(f'{module}.save_checkpoint', _save_checkpoint))
        yield


def _save_checkpoint(
    checkpoint: dict, filename: str, file_client_args: dict | None = None, backend_args: dict | None = None
) -> None:
    backend = None if file_client_args or '://' in filename else get_file_backend(filename, backend_args=backend_args)
    if isinstance(backend, AtomicLocalBackend):
        backend.write(lambda file: torch.save(checkpoint, file), filename)
    else:
        save_checkpoint(checkpoint, filename, file_client_args, backend_args)


def _system_error_of(error: BaseException | None) -> OSError | None:
    """The error itself, or the one in whose handling it came up, that the system raised; None where there is none."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too, where the file system does that for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse; the rename is then as safe as they make it.
        pass
    finally:
        os.close(descriptor)


# mmengine keeps one instance for each prefix; those made before this import are of its own class.
backend_instances.clear()
