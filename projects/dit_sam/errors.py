"""The error of what users hand in, and how tools tell errors."""

import os
import traceback


class InputError(ValueError):
    """Data, weights, a config or a sentence that cannot be worked with.

    The message is one line that names the file, key or item and says what to do; the tools print it alone, without a
    traceback. A file that is not there is a `FileNotFoundError`.
    """


def show_traceback() -> None:
    """Print where the error at hand came from, if the environment says DIT_SAM_DEBUG=1; tools print one line else."""
    if os.environ.get('DIT_SAM_DEBUG') == '1':
        traceback.print_exc()
