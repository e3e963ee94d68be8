"""What items are in training: reproducible, and replaced where an image cannot be read."""
import logging

import cv2
import torch
from mmengine.fileio import get
from mmengine.logging import print_log
from PIL import UnidentifiedImageError

from ..errors import InputError
from ..random_streams import seed_all
from ..utils import decode
from .images import find_image

# What mmcv, OpenCV and Pillow raise for files that are missing, damaged or no images.
_UNREADABLE = (OSError, AssertionError, UnidentifiedImageError, cv2.error)


class TrainingItems:
    """Goes before `BaseDataset` among the bases of a data set whose items are drawn anew at each visit.

    * Items of a training are drawn by (seed, epoch, index) once `set_stream` was called, as `RandomStreamHook` does,
      and do not depend on the worker that makes them, nor on what was made before.
    * An item whose image cannot be read is reported and another takes its place, as long as they are few; in testing
      the error ends the run.

    Attributes:
        max_unreadable: Share of the visited items that may be unreadable, beyond a first one in every worker.
    """

    max_unreadable = 0.001

    def __init__(self, *args, **kwargs) -> None:
        # Shared with data-loading workers, which may live for the whole training. No stream yet: −1.
        self._stream = torch.full((2, ), -1, dtype=torch.int64).share_memory_()
        self._visited, self._unreadable = 0, 0
        super().__init__(*args, **kwargs)

    def set_stream(self, seed: int, epoch: int) -> None:
        """Draw the items from now on by this seed and epoch."""
        self._stream[0], self._stream[1] = seed, epoch

    def __getitem__(self, index: int) -> dict:
        if self.test_mode:
            return self._get_whole(index)
        seed, epoch = self._stream.tolist()
        attempt = 0
        while True:
            if seed >= 0:
                seed_all(seed, epoch, index)
            self._visited += 1
            try:
                return super().__getitem__((index + attempt) % len(self))
            except (InputError, FileNotFoundError):
                raise
            except _UNREADABLE as error:
                self._report((index + attempt) % len(self), error)
            # A stride, as neighbours often lie on the same image.
            attempt += 1009

    def _get_whole(self, index: int) -> dict:
        """The item, as nothing may take its place.

        Raises:
            InputError: Its image cannot be read.
        """
        try:
            return super().__getitem__(index)
        except (InputError, FileNotFoundError):
            raise
        except _UNREADABLE as error:
            path = self.get_data_info(index)['img_path']
            raise InputError(f'{path} could not be read: {_reason(error, path)}; mend it, or leave out what is said '
                             'about it') from None

    def _report(self, index: int, error: Exception) -> None:
        """Say that an item is replaced.

        Raises:
            InputError: Too many are.
        """
        self._unreadable += 1
        path = self.get_data_info(index)['img_path']
        reason = _reason(error, path)
        if self._unreadable > 1 + self.max_unreadable * self._visited:
            raise InputError(f'{self._unreadable} of {self._visited} items could not be read, the last one {path} '
                             f'({reason}): more than the {self.max_unreadable:.1%} that may be replaced; mend or '
                             'remove the files, or check data_prefix.img_path')
        print_log(f'{path} could not be read and another item takes its place: {reason}', logger='current',
                  level=logging.WARNING)


def _reason(error: Exception, path: str) -> str:
    # mmcv asserts that there is an image, and OpenCV that it is not too large: in words for programmers.
    try:
        decode(get(find_image(path)))
    except ValueError as problem:
        return f'it {problem}'
    except OSError:
        pass
    return str(error).strip().split('\n')[0] or type(error).__name__
