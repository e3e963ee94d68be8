"""What items are in training: replaced where an image cannot be read."""

import logging

import cv2
from mmengine.fileio import get
from mmengine.logging import print_log
from PIL import UnidentifiedImageError

from ..errors import InputError
from ..utils import decode_image
from .images import find_image

# What mmcv, OpenCV and Pillow raise for files that are missing, damaged or no images.
_UNREADABLE = (OSError, AssertionError, UnidentifiedImageError, cv2.error)


class TrainingItems:
    """Goes before `BaseDataset` among the bases of a data set that is trained on.

    An item whose image cannot be read is reported and another takes its place, as long as they are few; in testing the
    error ends the run.

    Attributes:
        max_unreadable: Share of the visited items that may be unreadable, beyond a first one in every worker.
    """

    max_unreadable = 0.001

    def __init__(self, *args, **kwargs) -> None:
        self._visited, self._unreadable = 0, 0
        super().__init__(*args, **kwargs)

    def __getitem__(self, index: int) -> dict:
        if self.test_mode:
            return self._get_whole(index)
        attempt = 0
        while True:
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
            raise InputError(
                f'{path} could not be read: {_reason(error, path)}; mend it, or leave out what is said about it'
            ) from error

    def _report(self, index: int, error: Exception) -> None:
        """Say that an item is replaced.

        Raises:
            InputError: Too many are.
        """
        self._unreadable += 1
        path = self.get_data_info(index)['img_path']
        reason = _reason(error, path)
        if self._unreadable > 1 + self.max_unreadable * self._visited:
            raise InputError(
                f'{self._unreadable} of {self._visited} items could not be read, the last one {path} '
                f'({reason}): more than the {self.max_unreadable:.1%} that may be replaced; mend or '
                'remove the files, or check data_prefix.img_path'
            )
        print_log(
            f'{path} could not be read and another item takes its place: {reason}',
            logger='current',
            level=logging.WARNING,
        )


def _reason(error: Exception, path: str) -> str:
    # mmcv asserts that there is an image, and OpenCV that it is not too large: in words for programmers.
    try:
        decode_image(get(find_image(path)))
    except ValueError as problem:
        return f'it {problem}'
    except OSError:
        pass
    return str(error).strip().split('\n')[0] or type(error).__name__
