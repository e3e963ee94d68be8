"""Every script gets a font that has it, or there is a warning."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from dit_sam.errors import InputError
from dit_sam.visualization import draw_masks, text_layout

CMTT = str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'cmtt10.ttf'))


@pytest.fixture
def on_this_machine(monkeypatch, tmp_path):
    """`on_this_machine(name=letters)`: a machine with these fonts, whose letters are black squares."""

    def install(**letters: str) -> list[str]:
        paths = [write_font(tmp_path / f'{name}.ttf', text) for name, text in letters.items()]
        monkeypatch.setattr(text_layout, 'findSystemFonts', lambda: paths)
        return paths

    text_layout._font_for.cache_clear()
    yield install
    text_layout._font_for.cache_clear()


def write_font(path: Path, letters: str) -> str:
    pen = TTGlyphPen(None)
    for x, y in ((0, 0), (0, 800), (800, 800), (800, 0)):
        (pen.lineTo if pen.points else pen.moveTo)((x, y))
    pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(['.notdef', 'square'])
    builder.setupCharacterMap({ord(letter): 'square' for letter in letters})
    builder.setupGlyf({'.notdef': TTGlyphPen(None).glyph(), 'square': pen.glyph()})
    builder.setupHorizontalMetrics({'.notdef': (900, 0), 'square': (900, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=0)
    builder.setupNameTable(dict(familyName=path.stem, styleName='Regular'))
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.mark.parametrize(
    'text',
    [
        'the red star (0.93)',
        'κόκκινο αστέρι',
        'красная звезда',
        'النجمة الحمراء',
        'הכוכב האדום',
        'l’étoile\n\trouge',
        '',
    ],
)
def test_the_default_font_has_common_scripts(on_this_machine, text):
    on_this_machine(other=text + 'x')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert text_layout.font_for(text) == str(text_layout.DEFAULT_FONT)


def test_the_font_with_the_most_letters_is_used(on_this_machine, tmp_path):
    (tmp_path / 'broken.ttf').write_bytes(b'no font')
    some, most, _ = paths = on_this_machine(some='红', most='红色的星()0.93', other='abc')
    paths.append(str(tmp_path / 'broken.ttf'))
    assert text_layout.font_for('红') == min(some, most) and text_layout.font_for('红色的星 (0.93)') == most
    with pytest.warns(UserWarning, match="all fonts of this machine lack some of '蓝', drawn as boxes"):
        assert text_layout.font_for('蓝色的星') == most


def test_without_a_font_there_is_a_warning(on_this_machine):
    on_this_machine()
    with pytest.warns(UserWarning, match="all fonts of this machine lack some of '星红'"):
        assert text_layout.font_for('红星') == str(text_layout.DEFAULT_FONT)


def test_a_named_font_is_always_used(on_this_machine):
    with pytest.warns(UserWarning, match="cmtt10.ttf lacks '红'"):
        assert text_layout.font_for('红', CMTT) == CMTT
    with pytest.raises(FileNotFoundError, match='font none.ttf not found'):
        text_layout.font_for('a', 'none.ttf')
    with pytest.raises(InputError, match='font .*test_text_layout.py is damaged, or not a TrueType'):
        text_layout.font_for('a', __file__)


def test_sentences_of_one_picture_may_have_different_fonts(on_this_machine):
    on_this_machine(chinese='红色的星')
    image, mask = np.full((100, 480, 3), 100, np.uint8), np.ones((100, 480), bool)
    alone = [draw_masks(image, [mask], [text])[100:] for text in ('красная', '红色的星')]
    both = draw_masks(image, [mask] * 2, ['красная', '红色的星'])[100:]
    np.testing.assert_array_equal(both[: len(alone[0]) - 10], alone[0][:-10])
    ink = [(legend == 30).all(axis=-1).sum() for legend in (*alone, both)]
    assert ink[0] + ink[1] == ink[2] and ink[1] > 3 * 100  # squares: more ink than letters
