"""Settings on the command line."""

from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, DictAction

from ..errors import InputError
from .config_check import unread


class _Settings(DictAction):
    """`DictAction` that keeps the spaces of a single value, and says in one line what it cannot read."""

    @staticmethod
    def _parse_iterable(value: str) -> Any:
        single = value.strip('\'"')
        if ',' in single or single.startswith(('(', '[')):
            return DictAction._parse_iterable(value)
        return DictAction._parse_int_float_bool(single)

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Sequence[str], option_string: str | None = None
    ) -> None:
        for value in values:
            try:
                super().__call__(parser, namespace, [value], option_string)
            except (AssertionError, RecursionError, ValueError) as error:
                wanted = 'brackets and quotes that close, and no dict in a list' if '=' in value else 'key=value'
                raise ArgumentError(self, f'{value} is not read: it wants {wanted}') from error


def add_config_options(parser: ArgumentParser, more: str = '') -> None:
    """Add `--cfg-options`.

    Args:
        parser: Parser of a tool.
        more: What the help says besides.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Settings,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as key=value with dots in the key; a list is written '
        f'key="[a,b]" or key=a,b, without spaces{more}',
    )


def apply_config_options(options: Mapping, cfg: Config) -> None:
    """Put settings by dotted name into a config.

    Raises:
        InputError: One does not fit.
    """
    for key, value in options.items():
        problem = unread(key, cfg)
        try:
            if not problem:
                cfg.merge_from_dict({key: value})
        except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
            problem = str(error.args[0] if error.args else error).splitlines()[0]
        except AttributeError:  # mmengine takes every item of a list for a dict
            problem = 'a single value in a list cannot be set; give the whole list'
        if problem:
            raise InputError(f'--cfg-options {key}={value} does not fit the config: {problem}')
