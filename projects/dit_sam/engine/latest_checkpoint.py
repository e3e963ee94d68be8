"""The checkpoints of a training: the newest that can be read, and those that nobody needs any more."""

import logging
import shutil
from pathlib import Path
from zipfile import is_zipfile

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from .checkpoint_loader import CheckpointError, mapped_files

# A training that was told to stop writes the third kind; see `StopSignalHook`.
_KINDS = ('epoch', 'iter', 'stopped_iter')


def find_latest_checkpoint(work_dir: str) -> str | None:
    """The newest checkpoint of a training that is whole, or None where there is none at all.

    mmengine goes by the file `last_checkpoint`, and ends where the checkpoint that it names is damaged. Whether a file
    is cut off, and what it holds besides the numbers of its tensors, is read and not the whole; of the folders that
    DeepSpeed writes, whether a file is cut off.

    Args:
        work_dir: Folder of the training; its `best_*.pth` and exported weights do not count.

    Raises:
        CheckpointError: There are checkpoints, and none can be read.
    """
    paths = _newest_first(work_dir)
    for path in paths:
        reason = _why_not_whole(path) if path.is_dir() else _why_not_resumable(path)
        if not reason:
            return str(path)
        print_log(f'{path} is passed over: {reason}', logger='current', level=logging.WARNING)
    if paths:
        raise CheckpointError(
            f'no checkpoint of {work_dir} can be read ({len(paths)} tried): fetch a copy, or train '
            'without --resume, which begins anew'
        )
    return None


def check_resumable(filename: str) -> None:
    """Refuse a checkpoint that a training cannot continue from.

    Raises:
        CheckpointError: It is damaged, or holds weights alone.
    """
    path = Path(filename)
    reason = _why_not_whole(path) if path.is_dir() else _why_not_resumable(filename)
    if reason:
        raise CheckpointError(
            f'{filename} cannot be resumed: {reason}; leave out resume=True to start with its weights'
        )


def remove_old_stops(work_dir: str) -> None:
    """Remove the checkpoints of stopped trainings, but for those among the two newest checkpoints of the folder."""
    for path in _newest_first(work_dir)[2:]:
        if path.name.startswith('stopped_'):
            _remove(path)


def remove_unfinished_writes(work_dir: str) -> None:
    """Remove what is left of a checkpoint, file or folder, when its writer is killed; nothing may be writing there."""
    for path in Path(work_dir).glob('.*.part'):
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a file, or a folder of DeepSpeed."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _newest_first(work_dir: str) -> list[Path]:
    """The checkpoints of a training."""
    paths = [path for kind in _KINDS for path in Path(work_dir).glob(f'{kind}_*.pth')]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _why_not_whole(folder: Path) -> str:
    """What is the matter with a folder of DeepSpeed; '' where nothing is. The end of a zip file has its table."""
    files = sorted(folder.glob('*.pt'))
    cut = [file.name for file in files if not is_zipfile(file)]
    return f'{", ".join(cut)} in it is damaged' if cut else '' if files else 'it is empty'


def _why_not_resumable(path: Path | str) -> str:
    """What keeps a checkpoint from being resumed; '' where nothing does."""
    try:
        with mapped_files():
            checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    except CheckpointError as error:
        return str(error)
    return '' if {'state_dict', 'optimizer', 'meta'} <= set(checkpoint) else 'it holds no training state'
