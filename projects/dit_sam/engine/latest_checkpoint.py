"""The newest checkpoint that can be read."""
import logging
import os
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from .checkpoint_loader import CheckpointError


def find_latest_checkpoint(work_dir: str) -> str | None:
    """The newest checkpoint of a training that is whole, or None where there is none at all.

    mmengine goes by the file `last_checkpoint`, and ends where the checkpoint that it names is damaged.

    Args:
        work_dir: Folder of the training; its `best_*.pth` and exported weights do not count.

    Raises:
        CheckpointError: There are checkpoints, and none can be read.
    """
    paths = [path for kind in ('epoch', 'iter') for path in Path(work_dir).glob(f'{kind}_*.pth')]
    paths.sort(key=os.path.getmtime, reverse=True)
    for path in paths:
        try:
            checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
            if {'state_dict', 'optimizer', 'meta'} <= set(checkpoint):
                return str(path)
            reason = 'it holds no state of a training'
        except CheckpointError as error:
            reason = str(error)
        print_log(f'{path} is passed over: {reason}', logger='current', level=logging.WARNING)
    if paths:
        raise CheckpointError(f'no checkpoint of {work_dir} can be read ({len(paths)} tried): fetch a copy, or train '
                              'without --resume, which begins anew')
    return None
