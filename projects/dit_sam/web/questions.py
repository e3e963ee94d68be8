"""What a visitor of the page asks: a picture, sentences and clicks, checked before the model sees them."""

import os.path as osp

from ..errors import InputError
from ..utils import open_image

MAX_BYTES, MAX_PIXELS = 20_000_000, 25_000_000
MAX_SENTENCES, MAX_CHARACTERS, MAX_POINTS = 8, 200, 20

# x and y in pixels of the picture, and 1 inside the object or 0 outside it.
Point = tuple[int, int, int]


def check_picture(path: str | None) -> str:
    """The path of a picture of an acceptable size.

    Raises:
        InputError: There is no picture, the file is not a picture, or it is too large.
    """
    if path is None:
        raise InputError('no picture yet: drop one, or use one of the examples')
    if '://' in path or not osp.isfile(path):
        raise InputError('the picture is no longer here, as uploads are deleted after an hour: drop it again')
    if osp.getsize(path) > MAX_BYTES:
        raise InputError(f'the picture has more than {MAX_BYTES // 10**6} megabytes: save it smaller')
    try:
        with open_image(path) as image:
            width, height = image.size
    except Exception as error:  # a damaged header may raise nearly anything
        raise InputError(f'{path} is not a picture: use a JPEG, PNG or WebP') from error
    if width * height > MAX_PIXELS:
        raise InputError(
            f'the picture has {width * height / 1e6:.0f} megapixels, more than {MAX_PIXELS // 10**6}: scale it down'
        )
    return path


def split_sentences(text: str | None) -> list[str]:
    """The lines that are not empty.

    Raises:
        InputError: They are too many or too long.
    """
    lines = [line.strip() for line in (text or '').split('\n') if line.strip()]
    if len(lines) > MAX_SENTENCES:
        raise InputError(f'{len(lines)} sentences are too many: segment at most {MAX_SENTENCES} at a time')
    too_long = next((number for number, line in enumerate(lines, 1) if len(line) > MAX_CHARACTERS), None)
    if too_long:
        raise InputError(
            f'sentence {too_long} has {len(lines[too_long - 1])} characters: shorten it to {MAX_CHARACTERS}'
        )
    return lines


def check_question(lines: list[str], points: list[Point], reads_text: bool) -> list[str]:
    """The sentences to ask; for a model without text and no sentence a name for what the points are on.

    Raises:
        InputError: There is neither a sentence nor, for a model without text, a point; or there are too many points.
    """
    if len(points) > MAX_POINTS:
        raise InputError(f'{len(points)} points are too many: click at most {MAX_POINTS} times, or remove the points')
    if reads_text and not lines:
        raise InputError('no sentence yet: type what to look for')
    if not reads_text and not points:
        raise InputError('no point yet: click on the object in the picture')
    return lines or ['the clicked object']
