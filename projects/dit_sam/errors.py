"""The error of what users hand in."""


class InputError(ValueError):
    """Data, weights, a config or a sentence that cannot be worked with.

    The message is one line that names the file, key or item and says what to do; the tools print it alone, without a
    traceback. A file that is not there is a `FileNotFoundError`.
    """
