import re

from mmcv.transforms import RandomFlip
from mmseg.registry import TRANSFORMS

# 'left', 'left-hand', 'leftmost', 'LeftMost'; not 'leftover', 'bright'.
_DIRECTION = re.compile(r'\b(?:left|right)(?=(?:most)?\b)', re.IGNORECASE)


def swap_left_right(text: str) -> str:
    """Swap left with right and leftmost with rightmost, as whole words and in the case in which they stand.

    Lower case, 'Left' and 'LEFT' are kept; any other mixture becomes lower case. "right" is swapped wherever it stands
    as a word, also where it means "just" ("right behind the car"): words alone do not tell.

    Args:
        text (str): A sentence.
    """
    return _DIRECTION.sub(_opposite, text)


def _opposite(match: re.Match) -> str:
    word = match.group()
    other = 'right' if word.lower() == 'left' else 'left'
    if word.isupper():
        return other.upper()
    return other.capitalize() if word.istitle() else other


@TRANSFORMS.register_module()
class ReferringFlip(RandomFlip):
    """Mirror the image and its mask horizontally and swap left and right in the sentence.

    Required keys: ``img``, ``text``; ``gt_seg_map`` where there is one.
    Modified keys: the same. Added keys: ``flip``, ``flip_direction``.

    Args:
        prob (float): Probability of the flip.
    """

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob=float(prob), direction='horizontal')

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        results['text'] = swap_left_right(results['text'])

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(prob={self.prob})'
