"""The images that were asked about last, kept open within limits, for programs that answer many users."""

import os
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock, Timer
from time import monotonic

from ..errors import InputError
from .open_image import OpenImage


class KeptImages:
    """Open images by path, so that the next question about one does not read and encode it again.

    The images that were asked about last are kept, as many as the limits allow. An image is dropped when nobody has
    asked about it for `seconds`, also if nobody asks about another. A file that has changed is read again, and an
    address at each question. It can be called from several threads; two that open the same image at the same time may
    both read it.

        >>> kept = KeptImages(inferencer.open)
        >>> kept('photo.jpg')('the man')

    Args:
        open_image: Opens the image at a path, as `ReferringInferencer.open` does.
        number: The most images that are kept.
        nbytes: The most bytes that they take together. A larger image is opened at each question.
        seconds: How long an image is kept after the last question.

    Raises:
        InputError: A limit leaves nothing.
    """

    def __init__(
        self, open_image: Callable[[str], OpenImage], number: int = 8, nbytes: int = 2**30, seconds: float = 15 * 60
    ) -> None:
        if number < 1 or nbytes < 0 or seconds <= 0:
            raise InputError(f'KeptImages needs limits above 0, got {number=}, {nbytes=} and {seconds=}')
        self.open_image = open_image
        self.number, self.nbytes, self.seconds = number, nbytes, seconds
        # From the one that was asked first to the last, with the time of the question.
        self._kept: OrderedDict[tuple, tuple[OpenImage, float]] = OrderedDict()
        self._lock, self._timer = Lock(), Timer(0, self.drop_old)

    def __call__(self, path: str) -> OpenImage:
        """The image at a path.

        Raises:
            FileNotFoundError: As `open_image`.
            InputError: As `open_image`.
        """
        key = _key(path)
        if key is None:
            return self.open_image(path)
        with self._lock:
            kept = self._kept.get(key)
        image = self.open_image(path) if kept is None else kept[0]
        if image.nbytes <= self.nbytes:
            with self._lock:
                self._kept[key] = image, monotonic()
                self._kept.move_to_end(key)
                while len(self._kept) > self.number or sum(one.nbytes for one, _ in self._kept.values()) > self.nbytes:
                    self._kept.popitem(last=False)
            self.drop_old()
        return image

    def __len__(self) -> int:
        return len(self._kept)

    def drop_old(self) -> None:
        """Drop the images that nobody has asked about for `seconds`; a timer calls it for the others."""
        with self._lock:
            self._timer.cancel()
            while self._kept:
                _, asked = next(iter(self._kept.values()))
                left = asked + self.seconds - monotonic()
                if left > 0:
                    self._timer = Timer(left, self.drop_old)
                    self._timer.daemon = True
                    self._timer.start()
                    break
                self._kept.popitem(last=False)


def _key(path: str) -> tuple | None:
    """A path with time and size of its file; None if it is none, as an address, of which no change would show."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return path, status.st_mtime_ns, status.st_size
