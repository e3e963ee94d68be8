"""Left and right in sentences, which are swapped if an image is mirrored."""

import re

# Words that RefCOCO's annotators write together with a direction: 'topleft', 'leftmost', 'leftcorner', 'left_hand'. The
# same for both directions, so that swapping twice changes nothing. Not 'leftover', 'rightly', 'bright', 'upright',
# 'copyright'.
_BEFORE = 'far|near|top|bottom|upper|lower|mid|middle|center|centre|back|front|rear'
_ENDINGS = 'most|er|est|ist|iest|ish|y|ie|ies|s|sides?|sided|hands?|handed|handers?|wards?|facing'
_NAMED = 'corner|edge|end|half|part|ones?|guys?|man|men|woman|women|girls?|boys?|lady|kids?|child|person|people|player'
_DIRECTION = re.compile(
    rf'(?<![^\W_])({_BEFORE}|)(left|right)(?=(?:{_ENDINGS}|{_BEFORE}|{_NAMED}|)(?![^\W_]))', re.IGNORECASE
)


def swap_left_right(text: str) -> str:
    """Swap left and right in a sentence, also in words such as leftmost, lefthand and topleft.

    'left', 'Left' and 'LEFT' keep their case; any other mixture becomes lower case. "right" is also swapped if it means
    "just" ("right behind the car"), because the word alone does not show that.
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
