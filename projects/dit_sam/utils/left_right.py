"""Left and right in English sentences, which are swapped if an image is mirrored."""

import re

# Words that RefCOCO's annotators write together with a direction: 'topleft', 'leftmost', 'leftcorner', 'left_hand'. The
# same for both directions, so that swapping twice changes nothing. Not 'leftover', 'rightly', 'bright', 'upright',
# 'copyright'.
_BEFORE = 'far|near|top|bottom|upper|lower|low|mid|middle|center|centre|back|front|rear'
_ENDINGS = 'most|er|est|ist|iest|ish|y|ie|ies|s|sides?|sided|hands?|handsides?|handed|handers?|wards?|facing'
_NAMED = 'corner|edge|end|half|part|ones?|guys?|man|men|woman|women|girls?|boys?|lady|kids?|child|person|people|player'
# Also a number and a preposition, as in '2left', '2ndfromleft' and 'ontheleft'.
_GLUED = r'(?:\d+(?:st|nd|rd|th)?)?(?:on|to|at|in|from)?(?:the)?'
_DIRECTION = re.compile(
    rf'(?<![^\W_])({_BEFORE}|{_GLUED})(left|right)(?=(?:{_ENDINGS}|{_BEFORE}|{_NAMED}|)(?![^\W_]))', re.IGNORECASE
)

_HOURS = 'one two three four five six seven eight nine ten eleven twelve'.split()
_CLOCK = re.compile(rf'(?<![\w.:])(\d\d?|{"|".join(_HOURS)})(?=\s*o\W?\s?clock\b)', re.IGNORECASE)


def swap_left_right(text: str) -> str:
    """Swap left and right in an English sentence, also in words such as leftmost, lefthand and topleft.

    A position on a clock is mirrored too: "at 9 o'clock" becomes "at 3 o'clock".

    'left', 'Left' and 'LEFT' keep their case; any other mixture becomes lower case. "right" is also swapped if it means
    "just" ("right behind the car"), because the word alone does not show that.
    """
    return _CLOCK.sub(_mirrored_hour, _DIRECTION.sub(_opposite, text))


def _opposite(match: re.Match) -> str:
    before, word = match.groups()
    return before + _in_case_of(word, 'right' if word.lower() == 'left' else 'left')


def _mirrored_hour(match: re.Match) -> str:
    word = match[0]
    if word.isdigit():
        return str(12 - int(word)) if 1 <= int(word) <= 11 else word
    hour = _HOURS.index(word.lower()) + 1
    return _in_case_of(word, _HOURS[11 - hour]) if hour < 12 else word


def _in_case_of(word: str, other: str) -> str:
    if word.isupper():
        return other.upper()
    return other.capitalize() if word.istitle() else other
