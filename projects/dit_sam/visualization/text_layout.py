"""Text in pictures: fonts that have its letters, and lines that fit."""

import warnings
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
import regex
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

from ..errors import InputError

BACKGROUND, INK = (255, 255, 255), (30, 30, 30)
# Comes with matplotlib; has Latin, Greek, Cyrillic, Arabic and Hebrew letters.
DEFAULT_FONT = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')


def face_for(text: str, size: int, font: str | None = None) -> ImageFont.FreeTypeFont:
    """A font that draws a text, `size` pixels high; `font` and errors as in `font_for`."""
    return _load(font_for(text, font), size)


@lru_cache(maxsize=8)
def _load(font: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, size)


def font_for(text: str, font: str | None = None) -> str:
    """The file of a font for a text.

    By default it is DejaVu Sans or, where that lacks a letter, the system font with the most letters of the text. A
    warning names missing letters. Pillow joins letters and writes them from right to left if it has libraqm, as its
    wheels do.

    Args:
        text: A text in any script.
        font: A TrueType or OpenType file, used even if it lacks letters.

    Raises:
        FileNotFoundError: The font does not exist.
        InputError: The file is not a font.
    """
    if font is not None and not Path(font).is_file():
        raise FileNotFoundError(f'font {font} not found: name a .ttf or .otf file')
    if font is not None and not _letters_of(font):
        raise InputError(f'font {font} is damaged, or not a TrueType or OpenType file: name another one')
    return _font_for(frozenset(map(ord, text)) - set(map(ord, ' \t\n\u200c\u200d')), font)


@lru_cache(maxsize=256)
def _font_for(letters: frozenset[int], font: str | None) -> str:
    chosen = str(font or DEFAULT_FONT)
    missing = letters - _letters_of(chosen)
    if missing and not font:
        # Sorted, so that the choice does not depend on the order in which a folder is read.
        chosen = min([chosen, *sorted(findSystemFonts())], key=lambda path: len(letters - _letters_of(path)))
        missing = letters - _letters_of(chosen)
    if missing:
        where = f'the font {font} lacks' if font else 'all fonts of this machine lack some of'
        shown = ''.join(map(chr, sorted(missing)[:20]))
        warnings.warn(f'{where} {shown!r}, drawn as boxes: name a font that has them', stacklevel=3)
    return chosen


@cache
def _letters_of(font: str) -> frozenset[int]:
    """Code points of a font, of the first one in a collection; empty where Pillow cannot draw it."""
    try:
        face = FT2Font(font)
    except (OSError, RuntimeError):
        return frozenset()
    # Colored emoji are bitmaps of one size.
    return frozenset(face.get_charmap()) if face.scalable else frozenset()


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words, or within a word that is longer than a line."""
    lines = ['']
    for word in text.split():
        joined = f'{lines[-1]} {word}'.lstrip()
        if face.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines = [line for line in lines if line] + _break(word, face, width)
    return lines


def _break(word: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Pieces of a word of at most `width` pixels each, but at least one letter with its accents."""
    pieces = ['']
    for character in regex.findall(r'\X', word):
        if pieces[-1] and face.getlength(pieces[-1] + character) > width:
            pieces.append('')
        pieces[-1] += character
    return pieces
