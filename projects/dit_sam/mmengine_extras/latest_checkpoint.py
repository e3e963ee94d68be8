"""The checkpoints in a work dir: which is the newest that can be resumed, and which are no longer needed."""

import shutil
from pathlib import Path
from zipfile import is_zipfile

from mmengine.dist import all_gather_object

from ..errors import log_warning
from ..utils import read_checkpoint
from ..utils.checkpoints import CheckpointError, mapped_files
from .ranks import run_on_rank_0

# `StopSignalHook` writes the third kind.
_KINDS = ('epoch', 'iter', 'stopped_iter')


def find_latest_checkpoint(work_dir: str) -> str | None:
    """The newest checkpoint of a training that can be resumed; None if there are no checkpoints.

    mmengine trusts the file `last_checkpoint`, and fails if the checkpoint named there is damaged. Here a file is
    checked for its end and for all it holds besides the numbers of its tensors, without reading these; a folder of
    DeepSpeed is checked for the ends of its files.

    Args:
        work_dir: Folder of the training; `best_*.pth` and exported weights do not count.

    Raises:
        CheckpointError: There are checkpoints, but none can be read.
    """
    paths = _newest_first(work_dir)
    for path in paths:
        reason = _why_not_resumable(path)
        if not reason:
            return str(path)
        log_warning(f'{path} is skipped: {reason}')
    if paths:
        raise CheckpointError(
            f'no checkpoint of {work_dir} can be read ({len(paths)} tried): fetch a copy, or train '
            'without --resume, which starts over'
        )
    return None


def check_resumable(filename: str) -> None:
    """Refuse a checkpoint that a training cannot continue from; all ranks call it, and rank 0 reports for all.

    An address is read by all ranks: one of each machine downloads the file, and the others wait for it.

    Raises:
        CheckpointError: It is damaged, or holds only weights. Rank 0 raises it, and the others exit.
    """
    reasons = all_gather_object(_why_not_resumable(filename)) if '://' in filename else []
    run_on_rank_0(
        lambda: _refuse(filename, next(filter(None, reasons), '') if reasons else _why_not_resumable(filename))
    )


def _refuse(filename: str, reason: str) -> None:
    if reason:
        raise CheckpointError(
            f'{filename} cannot be resumed: {reason}; leave out resume=True to start with its weights'
        )


def remove_old_stops(work_dir: str) -> None:
    """Remove the checkpoints of stopped trainings, unless they are among the two newest checkpoints of the folder."""
    for path in _newest_first(work_dir)[2:]:
        if path.name.startswith('stopped_'):
            _remove(path)


def remove_unfinished_writes(work_dir: str) -> None:
    """Remove the temporary files and folders of killed writers; nothing may be writing there."""
    for path in Path(work_dir).glob('.*.part'):
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a file, or a folder of DeepSpeed."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _newest_first(work_dir: str) -> list[Path]:
    paths = [path for kind in _KINDS for path in Path(work_dir).glob(f'{kind}_*.pth')]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _why_not_resumable(filename: Path | str) -> str:
    """Why a training cannot continue from a checkpoint; '' if it can."""
    if Path(filename).is_dir():
        # A folder of DeepSpeed. The table of a zip file is at its end.
        files = sorted(Path(filename).glob('*.pt'))
        damaged = [file.name for file in files if not is_zipfile(file)]
        return f'{", ".join(damaged)} in it is damaged' if damaged else '' if files else 'it is empty'
    try:
        with mapped_files():
            checkpoint = read_checkpoint(str(filename))
    except CheckpointError as error:
        return str(error)
    return '' if {'state_dict', 'optimizer', 'meta'} <= set(checkpoint) else 'it holds no training state'
