"""Local files that appear whole or not at all."""
import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances


@register_backend('local', force=True, prefixes='')
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, whose `put` writes aside, syncs and renames.

    mmengine writes checkpoints straight onto their names, so that a full disk or a killed process destroys the file
    that was there. Importing this module makes it the backend of all local paths.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; an error leaves what was there and nothing half-written."""
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f'.{target.name}.{os.getpid()}.part')
        try:
            with open(aside, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, target)
            _sync_folder(target.parent)
        except OSError as error:
            # What could not be written is the file, and a full disk does not say so.
            error.filename = error.filename or str(target)
            raise
        finally:
            aside.unlink(missing_ok=True)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text; as `put`."""
        self.put(obj.encode(encoding), filepath)


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
