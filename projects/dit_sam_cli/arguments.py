"""Options that several tools have, and what programs set before they import torch."""

import argparse
import os

# SAM's own sizes, as in `dit_sam.models.weights.conversion`.
SAM_ARCHS = ('base', 'large', 'huge')
# Help of --model, and the values of --dtype, of the programs that open a model for inference.
MODEL = 'a name of `dit-sam list-models`, a folder, or a repository of a hub, user/name or user/name@revision'
DTYPES = ('float32', 'bfloat16', 'float16')


def let_threads_yield() -> None:
    """Let OpenMP's waiting threads soon yield to other processes (docs/training.md, "Threads").

    It has an effect before torch is imported.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', '1000')


def add_config_options(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add `--cfg-options`, a list of texts that `load_config` of dit_sam reads; `more` is appended to the help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=_setting,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as key=value with dots in the key; a list is written '
        f'key="[a,b]" or key=a,b, without spaces{more}',
    )


def _setting(text: str) -> str:
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'{text} cannot be read: it needs key=value')
    return text


def positive(text: str) -> int:
    """A whole number of 1 or more, as a `type` of argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text} is not positive')
    return number
