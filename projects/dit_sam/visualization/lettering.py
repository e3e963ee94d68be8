"""Text in pictures: its colours, its font and its lines."""

from functools import lru_cache

import regex
from PIL import ImageFont

from .fonts import font_for

BACKGROUND, INK = (255, 255, 255), (30, 30, 30)


def face_for(text: str, size: int, font: str | None = None) -> ImageFont.FreeTypeFont:
    """A font that draws a text, `size` pixels high.

    Args:
        text: What is to be drawn.
        size: Height in pixels.
        font: A TrueType or OpenType file. By default the one that `font_for` finds for the text.

    Raises:
        FileNotFoundError: There is no such font.
    """
    return _load(font_for(text, font), size)


@lru_cache(maxsize=8)
def _load(font: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, size)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words, or within a word that is longer than a line."""
    lines = ['']
    for word in text.split():
        joined = f'{lines[-1]} {word}'.lstrip()
        if face.getlength(joined) <= width:
            lines[-1] = joined
            continue
        pieces = _break(word, face, width)
        lines = [line for line in lines if line] + pieces
    return lines


def _break(word: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Pieces of a word of at most `width` pixels each; at least a letter with its accents a piece."""
    pieces = ['']
    for character in regex.findall(r'\X', word):
        if pieces[-1] and face.getlength(pieces[-1] + character) > width:
            pieces.append('')
        pieces[-1] += character
    return pieces
