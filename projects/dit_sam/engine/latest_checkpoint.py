"""The checkpoints of a training: the newest that can be read, and those that nobody needs any more."""
import logging
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from .checkpoint_loader import CheckpointError

# A training that was told to stop writes the third kind; see `StopSignalHook`.
_KINDS = ('epoch', 'iter', 'stopped_iter')


def find_latest_checkpoint(work_dir: str) -> str | None:
    """The newest checkpoint of a training that is whole, or None where there is none at all.

    mmengine goes by the file `last_checkpoint`, and ends where the checkpoint that it names is damaged. The folders
    that DeepSpeed writes are taken as they are.

    Args:
        work_dir: Folder of the training; its `best_*.pth` and exported weights do not count.

    Raises:
        CheckpointError: There are checkpoints, and none can be read.
    """
    paths = _newest_first(work_dir)
    for path in paths:
        reason = '' if path.is_dir() else _why_not_resumable(path)
        if not reason:
            return str(path)
        print_log(f'{path} is passed over: {reason}', logger='current', level=logging.WARNING)
    if paths:
        raise CheckpointError(f'no checkpoint of {work_dir} can be read ({len(paths)} tried): fetch a copy, or train '
                              'without --resume, which begins anew')
    return None


def remove_old_stops(work_dir: str) -> None:
    """Remove the checkpoints of stopped trainings, but for those among the two newest checkpoints of the folder."""
    for path in _newest_first(work_dir)[2:]:
        if path.name.startswith('stopped_') and path.is_file():
            path.unlink()


def remove_unfinished_writes(work_dir: str) -> None:
    """Remove what `AtomicLocalBackend` leaves when it is killed in mid-write; nothing may be writing there."""
    for path in Path(work_dir).glob('.*.part'):
        path.unlink(missing_ok=True)


def _newest_first(work_dir: str) -> list[Path]:
    """The checkpoints of a training."""
    paths = [path for kind in _KINDS for path in Path(work_dir).glob(f'{kind}_*.pth')]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _why_not_resumable(path: Path) -> str:
    """What keeps a checkpoint from being resumed; '' where nothing does."""
    try:
        checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    except CheckpointError as error:
        return str(error)
    return '' if {'state_dict', 'optimizer', 'meta'} <= set(checkpoint) else 'it holds no state of a training'
