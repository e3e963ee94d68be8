"""A font that has the letters of a text."""

import warnings
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font

from ..errors import InputError

# Comes with matplotlib; has Latin, Greek, Cyrillic, Arabic and Hebrew letters.
DEFAULT_FONT = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')


def font_for(text: str, font: str | None = None) -> str:
    """The file of a font for a text.

    Without a name it is DejaVu Sans or, where that lacks a letter, the font of this machine with the most letters of
    the text. A warning names letters that are left without a picture. Letters are joined and run from right to left
    where their script does so if Pillow has libraqm, as its wheels do.

    Args:
        text: What is to be written, in any script.
        font: A TrueType or OpenType file, used whatever letters it has.

    Raises:
        FileNotFoundError: There is no such font.
        InputError: The file is none.
    """
    if font is not None and not Path(font).is_file():
        raise FileNotFoundError(f'font {font} not found: name a .ttf or .otf file')
    if font is not None and not _letters_of(font):
        raise InputError(f'font {font} is damaged, or no TrueType or OpenType file: name another one')
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
        warnings.warn(f'{where} {shown!r}: boxes stand in their place; name a font that has them', stacklevel=3)
    return chosen


@cache
def _letters_of(font: str) -> frozenset[int]:
    """Code points of a font; of a file with several fonts those of the first. None where Pillow cannot draw it."""
    try:
        face = FT2Font(font)
    except (OSError, RuntimeError):
        return frozenset()
    # Coloured emoji are bitmaps of one size.
    return frozenset(face.get_charmap()) if face.scalable else frozenset()
