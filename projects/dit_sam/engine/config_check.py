"""What is wrong in a config, by the dotted name of the key, before anything is built.

mmengine passes keywords on until a constructor stumbles: its error names no key of the config, and some keys, such as
those of a dictionary that nobody reads, are never missed.
"""

import inspect
import reprlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Union, get_args, get_origin, get_type_hints

import mmengine.registry
import mmseg.registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ..errors import InputError

SECTIONS = {*inspect.signature(Runner).parameters, 'strategy', 'runner_type'} - {'cfg'}
# What runs look up in a config beside that, and tools/test.py for test-time augmentation.
LOOKED_UP = {
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'init_weights_for_test_or_val',
    'model_wrapper_cfg',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
# What builders take out of a dict before its class sees it.
TAKEN_OUT = {'type', '_scope_', '_delete_', 'constructor', 'paramwise_cfg', 'convert_to_iter_based', 'override'}
# What `Runner.build_dataloader` adds to the arguments of a `DataLoader`.
LOADER_KEYS = {*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch'}
# Its further keywords go to `save_checkpoint`, which would stumble over them after the first epoch.
COMPLETE = (CheckpointHook,)
# What configs that earlier versions dumped may have.
REMOVED_TYPES = {'MeanLossHook': "leave {path} out, and set default_hooks.runtime_info=dict(type='LossLogHook')"}
REMOVED_KEYS = {'optim_wrapper.sharded': 'leave it out, shards are detected'}
# What an instruction gets from the backbone that builds it.
FILLED_IN = {'self', 'embed_dims', 'depth'}


def check_config(cfg: Mapping, source: str) -> None:
    """Look at every part that a run builds.

    Args:
        cfg: The config.
        source: What to call it in errors.

    Raises:
        InputError: A section, a type or a keyword is misspelt, or a value has another type than a part of this project
            declares. The line names the key with all those above it.
    """
    problem = next(_problems(cfg, _registries(cfg.get('default_scope'))), None)
    if problem is not None:
        raise InputError(f'{source}: {problem}')


def unread(key: str, cfg: Mapping) -> str:
    """Why a setting of the command line would do nothing; '' if a run reads it, or code of one's own may.

    Args:
        key: With dots.
        cfg: The config, before anything is set.
    """
    section = key.split('.')[0]
    known = SECTIONS | LOOKED_UP
    if section in known:
        return ''
    if section not in cfg:
        near = get_close_matches(section, known | cfg.keys(), n=1, cutoff=0.8)
        return f'{section} is neither in the config nor anything that a run reads{_meant(near)}'
    if section == 'custom_imports':
        return 'custom_imports is followed when the config is read; write it there'
    value, names = cfg, key.split('.')
    for number, name in enumerate(names, 1):
        try:
            value = value[int(name) if isinstance(value, list) else name]
        except (IndexError, KeyError, TypeError, ValueError):
            break
        copies = [
            '.'.join([path, *names[number:]])
            for other in sorted(known & cfg.keys())
            for path in _places(cfg[other], value, other)
        ]
        if copies:
            others = f' and {len(copies) - 3} others' if len(copies) > 3 else ''
            return f'{section} was copied when the config was read; set {", ".join(copies[:3])}{others}'
    return ''


def _places(part: Any, value: Any, path: str) -> Iterator[str]:
    """The dotted names under which a part of a config has a value that is not a mere yes, no or None."""
    if value is not None and not isinstance(value, bool) and type(part) is type(value) and part == value:
        yield path
    elif isinstance(part, (Mapping, list, tuple)):
        for key, below in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _places(below, value, f'{path}.{key}')


def _misspelt(key: str, names: Iterable[str]) -> str:
    """What is wrong with a key at the top of a config that is nearly one of `names`; '' for variables of one's own."""
    near = [] if key in SECTIONS else get_close_matches(key, names, n=1, cutoff=0.8)
    return f'{key} is nothing that a run reads{_meant(near)}' if near else ''


def _registries(scope: Any) -> tuple[Registry, ...]:
    """Where the types of a config are looked up: with mmengine's and mmseg's those of its scope, such as mmdet's."""
    # mmseg's look into their parents, mmengine's; it has none of its own for strategies and functions.
    values = list({**vars(mmengine.registry), **vars(mmseg.registry)}.values())
    if isinstance(scope, str) and scope in MODULE2PACKAGE and scope != 'mmseg' and find_spec(scope) is not None:
        values += vars(import_module(f'{scope}.registry')).values()
    return tuple(value for value in values if isinstance(value, Registry))


def _problems(cfg: Mapping, registries: Sequence[Registry]) -> Iterator[str]:
    if 'model' not in cfg:
        yield 'it has no model; is it the config of a run?'
    yield from filter(None, (_misspelt(key, SECTIONS - cfg.keys()) for key in cfg.keys()))
    for section in sorted(SECTIONS & cfg.keys()):
        value = cfg[section]
        if section.endswith('_dataloader') and isinstance(value, Mapping):
            yield from _unknown(value, LOADER_KEYS, section)
        if section == 'train_cfg' and isinstance(value, Mapping) and 'type' not in value:
            loops = _keywords(EpochBasedTrainLoop) | _keywords(IterBasedTrainLoop)
            yield from _unknown(value, {*loops, 'by_epoch'}, section)
        yield from _of_value(value, section, registries)


def _of_value(value: Any, path: str, registries: Sequence[Registry]) -> Iterator[str]:
    """Problems of a value of a config and of all below it."""
    if isinstance(value, Mapping):
        if 'type' in value:
            yield from _of_part(value, path, registries)
        # norm_cfg and its like have builders of their own, which take other keys than their class.
        below = [(key, part) for key, part in value.items() if key == 'init_cfg' or not str(key).endswith('_cfg')]
        # What albumentations has is not registered.
        below = [] if value.get('type') == 'Albu' else below
    else:
        below = list(enumerate(value)) if isinstance(value, (list, tuple)) else []
    for key, part in below:
        yield from _of_value(part, f'{path}.{key}', registries)


def _of_part(part: Mapping, path: str, registries: Sequence[Registry]) -> Iterator[str]:
    """Problems of a dict that one of the registered classes or functions is built from."""
    kind = part['type']
    if not isinstance(kind, str):
        kinds = [kind] if callable(kind) else []
        if not kinds:
            yield f'{path}.type={reprlib.repr(kind)} is neither a name nor a class'
    else:
        kinds = [found for found in (registry.get(kind) for registry in registries) if found is not None]
        if not kinds and kind in REMOVED_TYPES:
            yield f'{path}.type={kind!r} was removed: {REMOVED_TYPES[kind].format(path=path)}'
        if not kinds:
            names = {name for registry in registries for name in _names(registry)}
            near = _meant(get_close_matches(kind, names, n=1))
            yield f'{path}.type={kind!r} is not registered{near}; parts of your own are registered by custom_imports'
    known = [_keywords(kind, path.startswith('model')) for kind in kinds]
    if known and None not in known:
        allowed = set().union(*known) | TAKEN_OUT
        yield from _unknown(part, allowed, path)
    if len(kinds) == 1 and None not in known:
        yield from _wrong_types(part, known[0], kinds[0], path)


def _unknown(part: Mapping, allowed: Iterable[str], path: str) -> Iterator[str]:
    for key in sorted(part.keys() - set(allowed)):
        if f'{path}.{key}' in REMOVED_KEYS:
            yield f'{path}.{key} was removed: {REMOVED_KEYS[f"{path}.{key}"]}'
        kind = part.get('type')
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        yield f'{path}.{key} is no argument{" of " if name else ""}{name}{_meant(get_close_matches(key, allowed, n=1))}'


def _wrong_types(part: Mapping, keywords: Mapping[str, Any], kind: type, path: str) -> Iterator[str]:
    """What other projects declare is not always what they take; a text in place of a number is wrong everywhere."""
    for key, (hint, required) in keywords.items():
        if key in part and (_is_ours(kind) or isinstance(part[key], str)) and not fits(part[key], hint):
            yield (
                f'{path}.{key}={reprlib.repr(part[key])} is of type {type(part[key]).__name__}, and {kind.__name__} '
                f'wants {inspect.formatannotation(hint)}'
            )
        # Elsewhere the runner hands out what is needed: the data set to its sampler, and so on.
        elif key not in part and required and _is_ours(kind) and path.split('.')[0] == 'model':
            yield f'{path} lacks {key}, which {kind.__name__} needs'


@cache
def _keywords(kind: Callable, in_model: bool = False) -> dict[str, tuple[Any, bool]] | None:
    """The keywords of a class or function with their types and whether they must be given; None where it takes any.

    A class that takes further keywords passes them to its parent, but for modules of others, which use them as they
    like.
    """
    found, closed = {}, True
    for owner in [one for one in kind.__mro__ if '__init__' in vars(one)] if inspect.isclass(kind) else [kind]:
        if owner is object:
            return found if closed and kind.__new__ is object.__new__ else None
        function = owner.__init__ if inspect.isclass(owner) else owner
        try:
            parameters, hints = inspect.signature(function).parameters.values(), get_type_hints(function)
        except (TypeError, ValueError, NameError):
            return None
        for one in parameters:
            # A parent's are the class's own affair.
            required = owner is kind and one.default is one.empty and one.name not in FILLED_IN
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                found.setdefault(one.name, (hints.get(one.name, Any), required))
        if owner in COMPLETE or all(one.kind != one.VAR_KEYWORD for one in parameters):
            return found
        closed = closed and _is_ours(owner)
        if in_model and not closed:
            return None
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config is what a type hint says; lists pass for tuples, as JSON has no others."""
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if isinstance(value, Mapping) and 'type' in value:  # stands for what is built from it
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin in (int, float):
        return isinstance(value, (int, origin)) and not isinstance(value, bool)
    if origin in (Sequence, list, tuple):
        return isinstance(value, (list, tuple)) and _each_fits(value, inner)
    # In Python 3.11 `Any` is a class.
    return origin is Any or not isinstance(origin, type) or isinstance(value, origin)


def _each_fits(values: Sequence, hints: tuple) -> bool:
    """`hints` as in `list[X]`, `tuple[X, ...]` or `tuple[X, Y]`."""
    if len(hints) < 2 or hints[-1] is Ellipsis:
        return not hints or all(fits(value, hints[0]) for value in values)
    return len(values) == len(hints) and all(map(fits, values, hints))


def _is_ours(kind: Callable) -> bool:
    return kind.__module__.split('.')[0] == 'dit_sam'


def _names(registry: Registry) -> Iterator[str]:
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent


def _meant(near: Sequence[str]) -> str:
    return f'; did you mean {near[0]}?' if near else ''
