"""The option `--cfg-options`: settings of a config on the command line."""

from argparse import ArgumentError, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config, DictAction

from ..errors import InputError
from .config_check import LOOKED_UP, SECTIONS, did_you_mean, nested_values


class _Settings(DictAction):
    """`DictAction` that keeps the spaces of a single value, and reports errors in one line."""

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
                raise ArgumentError(self, f'{value} cannot be read: it needs {wanted}') from error


def add_config_options(parser: ArgumentParser, more: str = '') -> None:
    """Add `--cfg-options` to the parser of a tool; `more` is appended to the help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Settings,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as key=value with dots in the key; a list is written '
        f'key="[a,b]" or key=a,b, without spaces{more}',
    )


def apply_config_options(options: Mapping, cfg: Config) -> None:
    """Apply settings by dotted name to a config.

    Raises:
        InputError: A setting does not fit.
    """
    for key, value in options.items():
        problem = unused_override(key, cfg)
        try:
            if not problem:
                cfg.merge_from_dict({key: value})
        except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
            problem = str(error.args[0] if error.args else error).splitlines()[0]
        except AttributeError:  # mmengine assumes that items of lists are dicts
            problem = 'a single value in a list cannot be set; give the whole list'
        if problem:
            raise InputError(f'--cfg-options {key}={value} does not fit the config: {problem}')


def unused_override(key: str, cfg: Mapping) -> str:
    """Why a setting of the command line would have no effect; '' if a run, or code of the user, may read it.

    Args:
        key: The dotted name.
        cfg: The config before anything is set.
    """
    section = key.split('.')[0]
    known = SECTIONS | LOOKED_UP
    if section in known:
        return ''
    if section not in cfg:
        near = get_close_matches(section, known | cfg.keys(), n=1, cutoff=0.8)
        return f'{section} is neither in the config nor anything that a run reads{did_you_mean(near)}'
    if section == 'custom_imports':
        return 'custom_imports takes effect when the config is read; write it there'
    value, names = cfg, key.split('.')
    for number, name in enumerate(names, 1):
        try:
            value = value[int(name) if isinstance(value, list) else name]
        except (IndexError, KeyError, TypeError, ValueError):
            break
        if value is None or isinstance(value, bool):
            continue
        copies = [
            '.'.join([path, *names[number:]])
            for path, other in nested_values({name: cfg[name] for name in sorted(known & cfg.keys())})
            if type(other) is type(value) and other == value
        ]
        if copies:
            others = f' and {len(copies) - 3} others' if len(copies) > 3 else ''
            return f'{section} was copied when the config was read; set {", ".join(copies[:3])}{others}'
    return ''
