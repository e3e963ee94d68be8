"""The option `--cfg-options`: settings of a config on the command line. `dit_sam_cli.arguments` adds it to parsers."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config, DictAction

from ..errors import InputError
from .config_check import LOOKED_UP, SECTIONS, did_you_mean, nested_values


def read_config_options(texts: Sequence[str]) -> dict[str, Any]:
    """The settings of `--cfg-options`, each `key=value`, by dotted name.

    Raises:
        InputError: One cannot be read.
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, _, value = text.partition('=')
        try:
            options[key] = _read_value(value)
        except (AssertionError, RecursionError, ValueError) as error:
            raise InputError(
                f'--cfg-options {text} cannot be read: it needs brackets and quotes that close, and no dict in a list'
            ) from error
    return options


def _read_value(text: str) -> Any:
    """As mmengine reads a value, but the spaces of a single one stay."""
    single = text.strip('\'"')
    if ',' in single or single.startswith(('(', '[')):
        return DictAction._parse_iterable(text)
    return DictAction._parse_int_float_bool(single)


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
