"""Forms of input, each with its documented outcome, and a single try of one of them.

The modules `forms_*.py` fill `FORMS`. `fuzz.py` tries each many times, `test_fuzz.py` a few times.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from dit_sam.errors import InputError
from dit_sam.utils import CheckpointError

# What the tools print as one line, without a traceback.
ERRORS = (InputError, CheckpointError, FileNotFoundError)
LONGEST_LINE = 1000
SECONDS = 30
MODULES = (
    'forms_pickles',
    'forms_references',
    'forms_masks',
    'forms_run_lengths',
    'forms_own_data',
    'forms_prepared',
    'forms_sentences',
    'forms_images',
    'forms_bad_images',
    'forms_configs',
    'forms_checkpoints',
    'forms_hostile_checkpoints',
    'forms_text_models',
)


class Attempt(NamedTuple):
    """A function that reads an input and checks the result, and the names that an error must contain."""

    run: Callable[[], Any]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """One form of input.

    Attributes:
        kind: The group it belongs to.
        text: Its description.
        outcomes: 'accepted', 'refused', or both.
        says: The result, or what the error names.
        make: Makes a random input in a folder.
        share: How often it is tried, as a share of the others.
    """

    kind: str
    text: str
    outcomes: tuple[str, ...]
    says: str
    make: Callable[[Random, Path], Attempt]
    share: float


FORMS: list[Form] = []


def accepted(kind: str, text: str, says: str, share: float = 1.0) -> Callable:
    return _form(kind, text, ('accepted',), says, share)


def refused(kind: str, text: str, says: str, share: float = 1.0) -> Callable:
    return _form(kind, text, ('refused',), says, share)


def either(kind: str, text: str, says: str, share: float = 1.0) -> Callable:
    """Register a form of random damage, which may hit data that do not matter."""
    return _form(kind, text, ('accepted', 'refused'), says, share)


def _form(kind: str, text: str, outcomes: tuple[str, ...], says: str, share: float) -> Callable:

    def register(make: Callable) -> Callable:
        FORMS.append(Form(kind, text, outcomes, says, make, share))
        return make

    return register


def load_forms() -> list[Form]:
    for module in MODULES:
        import_module(module)
    return FORMS


def try_once(form: Form, seed: int, folder: Path) -> str:
    """Make the input of that seed, run the attempt and return the outcome.

    Raises:
        AssertionError: The outcome is not a documented one, or the error is not one line with the expected names.
        Exception: Any other error.
    """
    attempt = form.make(Random(f'{form.kind} {form.text} {seed}'), folder)
    outcome, message = 'accepted', ''
    with time_limit(SECONDS):
        try:
            attempt.run()
        except ERRORS as error:
            outcome, message = 'refused', str(error)
            missing = [name for name in attempt.names if name not in message]
            assert not missing, f'the error does not name {missing}: {message}'
            assert message == message.strip() and '\n' not in message and message, f'not one line: {message!r}'
            assert len(message) <= LONGEST_LINE, f'a line of {len(message)} characters: {message}'
    assert outcome in form.outcomes, f'{outcome} {message}'
    return outcome


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:

    def stop(*_: Any) -> None:
        raise TimeoutError(f'not done after {seconds} seconds')

    # Seconds of this process, not of the clock: the machine may have other work to do.
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def damage(rng: Random, data: bytes) -> bytes:
    """The data with a few bytes changed, removed or added."""
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, how = rng.randrange(len(damaged)), rng.random()
        if how < 0.6:
            damaged[place] = rng.randrange(256)
        elif how < 0.8:
            del damaged[place : place + rng.randint(1, 8)]
        else:
            damaged[place:place] = rng.randbytes(rng.randint(1, 8))
        damaged = damaged or bytearray(b' ')
    return bytes(damaged)


def cut(rng: Random, data: bytes) -> bytes:
    """The beginning, at least one byte short."""
    return data[: rng.randrange(len(data))]


def misspell(rng: Random, word: str) -> str:
    """A letter doubled, dropped or exchanged with the next, so that the word is another one."""
    while True:
        place = rng.randrange(len(word) - 1)
        wrong = rng.choice(
            [
                word[:place] + word[place] + word[place:],
                word[:place] + word[place + 1 :],
                word[:place] + word[place + 1] + word[place] + word[place + 2 :],
            ]
        )
        if wrong != word and wrong:
            return wrong


def junk(rng: Random) -> Any:
    """A JSON value that is hardly ever valid."""
    return rng.choice(
        [
            None,
            True,
            -1,
            0,
            2**40,
            -(2**70),
            10**400,
            0.5,
            float('nan'),
            float('inf'),
            '',
            ' ',
            'x',
            '\x00',
            '\ud800',
            'é' * 300,
            [],
            [[]],
            [None],
            [[[[1]]]],
            {},
            {'a': {}},
            {'type': 'x'},
            [1, 'a', None],
            list(range(1000)),
        ]
    )


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in nested lists and dicts."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple, new: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def remove(value: Any, path: tuple) -> None:
    for key in path[:-1]:
        value = value[key]
    del value[path[-1]]
