"""The exception for wrong input, and how errors and warnings are reported."""

import logging
import os
import sys
import traceback


class InputError(ValueError):
    """Data, weights, a config or a sentence that cannot be used.

    The message is one line that names the file, key or item and the remedy. The tools print it without a traceback. A
    missing file is a `FileNotFoundError`.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """A text on one line, with escapes for what no terminal shows and no file can hold."""
    return ''.join(letter if letter.isprintable() else letter.encode('unicode_escape').decode() for letter in text)


def show_traceback() -> None:
    """Print the traceback of the current error if DIT_SAM_DEBUG=1 is set; otherwise tools print one line."""
    if os.environ.get('DIT_SAM_DEBUG') == '1':
        traceback.print_exc()


def log_warning(message: str, of_one_rank: bool = False) -> None:
    """Write a warning to the log of the run.

    mmengine drops warnings of all ranks but the first. With `of_one_rank`, which is for what the others do not know, a
    rank prints it.
    """
    from mmengine.dist import get_rank
    from mmengine.logging import print_log

    if of_one_rank and get_rank() > 0:
        print(f'rank {get_rank()}: {message}', file=sys.stderr, flush=True)
        return
    print_log(message, logger='current', level=logging.WARNING)
