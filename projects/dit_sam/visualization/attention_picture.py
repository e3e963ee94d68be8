"""Picture of the attention between image and text (DIT, Figure 5). Pictures are RGB, uint8, (H, W, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np

from ..errors import InputError
from .overlay import draw_masks
from .sheet import draw_sheet
from .word_attention import SentenceAttention

TITLES = dict(to_text='where the image looks at each word', to_image='where each word looks in the image')


def draw_attention(
    image: np.ndarray,
    attention: SentenceAttention,
    direction: str = 'to_text',
    layers: Sequence[str] | None = None,
    special: bool = False,
    font: str | None = None,
) -> np.ndarray:
    """A sheet with a row for each layer and in it a map for each word.

    The color scale of a row ends at the largest share in it. The caption gives the largest share of each word.

    Args:
        image: The picture.
        attention: Its attention to a sentence.
        direction: `to_text`, where visual tokens attend to a word, or `to_image`, where a word attends.
        layers: Names of the layers to draw, by default all that have this direction.
        special: Also draw special tokens, which often take most of the attention.
        font: As in `draw_masks`.

    Raises:
        InputError: A layer does not exist, or none has this direction.
    """
    selected = [layer for layer in attention.select(layers) if getattr(layer, direction) is not None]
    if not selected:
        raise InputError(f'none of these layers has attention {direction}: docs/visualization.md says which have it')
    words = [i for i, is_special in enumerate(attention.special) if special or not is_special]
    answer = draw_masks(image, [attention.mask], [''], min_side=0)[: len(image)]
    rows = [(f'{attention.sentence}: {TITLES[direction]}', [('picture', image), ('answer', answer)])]
    for layer in selected:
        values = getattr(layer, direction)[words]
        cells = [
            (
                f'{attention.words[i]} {100 * one.max():.2g} %',
                heat(image, attention.over_picture(one / values.max(), image.shape[:2])),
            )
            for i, one in zip(words, values)
        ]
        rows.append((layer.name, cells))
    return draw_sheet(rows, font=font)


def heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A gray picture under a color map of values from 0 to 1, (H, W); larger values are more opaque."""
    values = values.clip(0, 1)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    colors = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    opacity = 0.7 * np.sqrt(values)[..., None]
    return ((1 - opacity) * gray + opacity * colors).astype(np.uint8)
