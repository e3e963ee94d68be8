import re

import numpy as np
from mmcv.transforms import RandomFlip
from mmseg.registry import TRANSFORMS

# What RefCOCO's authors write together with a direction: 'topleft', 'leftmost', 'leftcorner', 'left_hand'. The same on
# both sides, so that swapping twice changes nothing. Not 'leftover', 'rightly', 'bright', 'upright', 'copyright'.
_BEFORE = 'far|near|top|bottom|upper|lower|mid|middle|center|centre|back|front|rear'
_ENDINGS = 'most|er|est|ist|iest|ish|y|ie|ies|s|sides?|sided|hands?|handed|handers?|wards?|facing'
_NAMED = 'corner|edge|end|half|part|ones?|guys?|man|men|woman|women|girls?|boys?|lady|kids?|child|person|people|player'
_DIRECTION = re.compile(
    rf'(?<![^\W_])({_BEFORE}|)(left|right)(?=(?:{_ENDINGS}|{_BEFORE}|{_NAMED}|)(?![^\W_]))', re.IGNORECASE
)


def swap_left_right(text: str) -> str:
    """Swap left with right, also in words such as leftmost, lefthand and topleft, in the case in which they stand.

    Lower case, 'Left' and 'LEFT' are kept; any other mixture becomes lower case. "right" is swapped wherever it stands
    as a word, also where it means "just" ("right behind the car"): words alone do not tell.

    Args:
        text (str): A sentence.
    """
    return _DIRECTION.sub(_opposite, text)


def _opposite(match: re.Match) -> str:
    before, word = match.groups()
    other = 'right' if word.lower() == 'left' else 'left'
    if word.isupper():
        other = other.upper()
    elif word.istitle():
        other = other.capitalize()
    return before + other


@TRANSFORMS.register_module()
class ReferringFlip(RandomFlip):
    """Horizontal flip of the image, its mask, points and box that swaps left and right in the sentence.

    Required keys: `img`, `text`; optional `gt_seg_map`, `points` and `box`.
    Modified keys: the same. Added keys: `flip`, `flip_direction`.

    Args:
        prob: Probability of the flip.
    """

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__(prob=float(prob), direction='horizontal')

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        results['text'] = swap_left_right(results['text'])
        width = results['img'].shape[1]
        if 'points' in results:
            # The center of the first pixel is at 0, that of the last one at width - 1.
            results['points'] = results['points'] * np.array([-1, 1], np.float32) + np.array([width - 1, 0], np.float32)
        if 'box' in results:
            left, top, right, bottom = results['box']
            results['box'] = np.array([width - right, top, width - left, bottom], np.float32)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}(prob={self.prob})'
