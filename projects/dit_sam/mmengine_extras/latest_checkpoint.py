"""The checkpoints in a work dir: which is the newest that can be resumed, and which are no longer needed."""

import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from zipfile import is_zipfile

from mmengine.dist import all_gather_object

from ..errors import log_warning
from ..utils import is_writer_dead, read_checkpoint
from ..utils.checkpoints import CheckpointError, mapped_files
from .ranks import run_on_rank_0

# `StopSignalHook` writes the third kind.
_KINDS = ('epoch', 'iter', 'stopped_iter')
# A writer that lives changes its file all the time; ten minutes allow for a disk that hangs, and for the clocks of
# machines that share it.
_SECONDS_OF_WRITING = 600


def find_latest_checkpoint(*folders: str, filename_tmpl: str | None = None) -> str | None:
    """The newest checkpoint of a training that can be resumed; None if there are no checkpoints.

    The newest is the one that was saved last by its own account (`meta`), as a copied folder has other times.
    mmengine trusts the file `last_checkpoint`, and fails if the checkpoint named there is damaged. Here a file is
    checked for its end and for all it holds besides the numbers of its tensors, without reading these; a folder of
    DeepSpeed is checked for the ends of its files.

    Args:
        *folders: Folders of the training; `best_*.pth` and exported weights do not count.
        filename_tmpl: As in `CheckpointHook`.

    Raises:
        CheckpointError: There are checkpoints, but none can be read.
    """
    reasons, saved = {}, {}
    for path in dict.fromkeys(path for folder in folders for path in _newest_first(folder, filename_tmpl)):
        try:
            saved[path] = _when_saved(path)
        except CheckpointError as error:
            reasons[path] = error
    newest = max(saved, key=lambda path: saved[path], default=None)
    for path, reason in reasons.items():
        if newest is None or _modified(path) >= _modified(newest):
            log_warning(f'{path} is skipped: {reason}')
    if reasons and newest is None:
        raise CheckpointError(
            f'no checkpoint of {folders[0]} can be read ({len(reasons)} tried): fetch a copy, or train '
            'without --resume, which starts over'
        )
    return None if newest is None else str(newest)


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


def remove_old_stops(work_dir: str, out_dir: str | None = None, filename_tmpl: str | None = None) -> None:
    """Remove the checkpoints of stopped trainings in a work dir, unless they are among the two newest ones.

    Args:
        work_dir: Where stopped trainings are saved.
        out_dir: Where other checkpoints are, if it is another folder.
        filename_tmpl: As in `CheckpointHook`.
    """
    folders = {os.path.realpath(folder) for folder in (work_dir, out_dir or work_dir)}
    paths = {path for folder in folders for path in _newest_first(folder, filename_tmpl)}
    for path in sorted(paths, key=_modified, reverse=True)[2:]:
        if path.name.startswith('stopped_'):
            _remove(path)


def remove_unfinished_writes(work_dir: str) -> None:
    """Remove the temporary files and folders of killed writers.

    Those of writers that are known to be dead are removed at once, others ten minutes after their last change: another
    training may be writing them, and would fail without them. A folder that was moved away for one that never came is
    moved back.
    """
    for path in Path(work_dir).glob('.*.old'):
        target = path.with_name(path.name[1 : -len('.old')])
        if target.exists():
            _remove(path)
        else:
            path.rename(target)
    for path in Path(work_dir).glob('.*.part'):
        # Another process may finish it just now.
        with suppress(FileNotFoundError):
            if is_writer_dead(path) or time.time() - _last_change(path) > _SECONDS_OF_WRITING:
                _remove(path)


def _last_change(path: Path) -> float:
    """When a file, or a file in a folder of DeepSpeed, was last written to: seconds since 1970."""
    return max(each.stat().st_mtime for each in (path, *path.glob('*')))


def _remove(path: Path) -> None:
    """Remove a file, or a folder of DeepSpeed."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _newest_first(work_dir: str, filename_tmpl: str | None = None) -> list[Path]:
    """Checkpoints by the time of their files, also those that a hook names by a template."""
    patterns = [f'{kind}_*.pth' for kind in _KINDS]
    if filename_tmpl:
        # '{}', '{:03d}'
        patterns.append('*'.join(map(escape, re.split(r'\{[^}]*\}', filename_tmpl))))
    paths = {path for pattern in patterns for path in Path(work_dir).glob(pattern) if not path.name.startswith('best_')}
    return sorted(paths, key=_modified, reverse=True)


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns


def _why_not_resumable(filename: Path | str) -> str:
    """Why a training cannot continue from a checkpoint; '' if it can."""
    try:
        _when_saved(filename)
    except CheckpointError as error:
        return str(error)
    return ''


def _when_saved(filename: Path | str) -> tuple[float, int, int]:
    """When a checkpoint was saved, by its own account: seconds since 1970, step, and the time of the file.

    Raises:
        CheckpointError: A training cannot continue from it.
    """
    path = Path(filename)
    modified = _modified(path) if path.exists() else 0
    seconds = float(modified // 10**9)
    if path.is_dir():
        # A folder of DeepSpeed. The table of a zip file is at its end.
        files = sorted(path.glob('*.pt'))
        damaged = [file.name for file in files if not is_zipfile(file)]
        if damaged or not files:
            raise CheckpointError(f'{", ".join(damaged)} in it is damaged' if damaged else 'it is empty')
        return seconds, 0, modified
    with mapped_files():
        checkpoint = read_checkpoint(str(filename))
    if not {'state_dict', 'optimizer', 'meta'} <= set(checkpoint):
        raise CheckpointError('it holds no training state')
    meta = checkpoint['meta'] if isinstance(checkpoint['meta'], Mapping) else {}
    step, saved = meta.get('iter'), meta.get('saved')
    if isinstance(saved, float):
        seconds = saved
    elif 'time' in meta:
        # mmengine's own, local time.
        with suppress(ValueError):
            seconds = time.mktime(time.strptime(str(meta['time']), '%Y%m%d_%H%M%S'))
    return seconds, step if isinstance(step, int) else 0, modified
