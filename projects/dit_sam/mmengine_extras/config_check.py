"""Check of a config before anything is built: unknown sections, types and keywords, and values of the wrong type.

mmengine passes keywords on until some constructor fails. Its error does not name the key of the config, and unused keys
are not reported at all.
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
# Other keys that runs read from a config, and those that tools/test.py reads for test-time augmentation.
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
# Projects whose parts build the dicts below them as they are. Those of mmdet add keys, take keys out, and look up names
# elsewhere, such as RoIAlign.
BUILD_AS_GIVEN = {'mmengine', 'mmcv', 'mmseg'}
# Keys that builders take out of a dict before its class sees it.
BUILDER_KEYS = {'type', '_scope_', '_delete_', 'constructor', 'paramwise_cfg', 'convert_to_iter_based', 'override'}
# Where `Runner.register_hook` takes out `priority`.
HOOK_SECTIONS = ('default_hooks', 'custom_hooks')
# `Runner.build_dataloader` adds the last one to the arguments of a `DataLoader`.
LOADER_KEYS = {*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch'}
RANDOMNESS_KEYS = {*inspect.signature(Runner.set_randomness).parameters} - {'self'}
# Its other keywords go to `save_checkpoint`, which would fail after the first epoch.
COMPLETE = (CheckpointHook,)
# Required arguments that the parent part fills in; a project adds its own.
FILLED_IN = {'self'}


def check_config(cfg: Mapping, source: str) -> None:
    """Check every part that a run builds.

    Args:
        cfg: The config.
        source: What to call it in errors.

    Raises:
        InputError: A section, a type or a keyword is unknown, or a value does not have the type that a part of this
            project declares. The message names the key with its full path.
    """
    for problem in _problems(cfg, _registries(cfg.get('default_scope'))):
        raise InputError(f'{source}: {problem}')


def class_name(part: Any) -> str:
    """The name of the class of a part of a config, without its scope; '' for none."""
    kind = part.get('type', '') if isinstance(part, Mapping) else ''
    return str(getattr(kind, '__name__', kind)).split('.')[-1]


def registered_name(path: str, scope: str | None = 'mmseg') -> str:
    """The name by which a scope finds a class whose path is known, or the path if mmseg and mmengine do not have it.

    Args:
        path: Such as `mmseg.models.SegDataPreProcessor`. The class may be defined in a module below. Nothing is
            imported.
        scope: The `default_scope` of the config.
    """
    module, _, name = path.rpartition('.')
    registries = _registries(None)
    kinds = _kinds(name, registries) if module else []
    for registry in [one for each in registries for one in _with_parents(each)] if kinds else ():
        found = registry.module_dict.get(name)
        if found is not None and f'{found.__module__}.'.startswith(f'{module}.'):
            # In other scopes, and of several classes of one name, the scope in the name tells which.
            is_plain = scope == 'mmseg' and all(kind is found for kind in kinds)
            return name if is_plain else f'{registry.scope}.{name}'
    return path


def name_in_scope(cfg: Mapping, name: str) -> str:
    """A name of mmseg's registries, as a config of its scope must write it."""
    return name if cfg.get('default_scope', 'mmseg') == 'mmseg' else f'mmseg.{name}'


def nested_values(part: Mapping | Sequence, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """All values below a part of a config by dotted name, including dicts and lists."""
    for key, value in part.items() if isinstance(part, Mapping) else enumerate(part):
        yield f'{prefix}{key}', value
        if isinstance(value, (Mapping, list, tuple)):
            yield from nested_values(value, f'{prefix}{key}.')


def _misspelled(key: str, names: Iterable[str]) -> str:
    """The problem with a top-level key that is nearly one of `names`; '' for the user's own variables."""
    near = [] if key in SECTIONS else get_close_matches(key, names, n=1, cutoff=0.8)
    return f'{key} is not a key that a run reads{did_you_mean(near)}' if near else ''


def _registries(scope: Any) -> tuple[Registry, ...]:
    """The registries in which types are looked up: those of mmengine, mmseg and the config's scope, such as mmdet."""
    # mmseg's registries fall back to their parents, mmengine's; mmseg has none for strategies and functions.
    values = list({**vars(mmengine.registry), **vars(mmseg.registry)}.values())
    if isinstance(scope, str) and scope in MODULE2PACKAGE and scope != 'mmseg' and find_spec(scope) is not None:
        values += vars(import_module(f'{scope}.registry')).values()
    return tuple(value for value in values if isinstance(value, Registry))


def _problems(cfg: Mapping, registries: Sequence[Registry]) -> Iterator[str]:
    if 'model' not in cfg:
        yield 'it has no model; is it the config of a run?'
    yield from filter(None, (_misspelled(key, SECTIONS - cfg.keys()) for key in cfg.keys()))
    for section in sorted(SECTIONS & cfg.keys()):
        value = cfg[section]
        if section.endswith('_dataloader') and isinstance(value, Mapping):
            yield from _unknown(value, LOADER_KEYS, section)
        if section == 'train_cfg' and isinstance(value, Mapping) and 'type' not in value:
            loops = {**(_keywords(EpochBasedTrainLoop) or {}), **(_keywords(IterBasedTrainLoop) or {})}
            yield from _unknown(value, {*loops, 'by_epoch'}, section)
        if section == 'randomness':
            if value is not None and not isinstance(value, Mapping):
                yield f'randomness={reprlib.repr(value)} is no dict; set randomness.seed'
            yield from _unknown(value or {}, RANDOMNESS_KEYS, section)
        yield from _of_value(value, section, registries)


def _of_value(value: Any, path: str, registries: Sequence[Registry], as_given: bool = True) -> Iterator[str]:
    """Problems of a value of a config and of everything below it.

    Without `as_given` it belongs to a part that may change it before it builds something from it.
    """
    if isinstance(value, Mapping):
        if 'type' in value:
            kinds = _kinds(value['type'], registries)
            if as_given or any(map(is_ours, kinds)):
                yield from _of_part(value, kinds, path, registries)
            # mmdet's detectors build their own parts as they are.
            as_given = path == 'model' or any(is_ours(kind) or _project(kind) in BUILD_AS_GIVEN for kind in kinds)
        # norm_cfg and the like have their own builders, whose keys differ from those of the class.
        below = [(key, part) for key, part in value.items() if key == 'init_cfg' or not str(key).endswith('_cfg')]
        # The transforms of albumentations are not registered.
        below = [] if class_name(value) == 'Albu' else below
    else:
        below = list(enumerate(value)) if isinstance(value, (list, tuple)) else []
    for key, part in below:
        yield from _of_value(part, f'{path}.{key}', registries, as_given)


def _kinds(kind: Any, registries: Sequence[Registry]) -> list[Callable]:
    """The classes or functions that a `type` may mean."""
    if not isinstance(kind, str):
        return [kind] if callable(kind) else []
    return [found for found in (_registered(registry, kind) for registry in registries) if found is not None]


def _of_part(part: Mapping, kinds: Sequence[Callable], path: str, registries: Sequence[Registry]) -> Iterator[str]:
    """Problems of a dict from which a registered class or function is built."""
    kind = part['type']
    if not kinds:
        if not isinstance(kind, str):
            yield f'{path}.type={reprlib.repr(kind)} is neither a name nor a class'
        else:
            names = {name for registry in registries for name in _names(registry)}
            near = did_you_mean(get_close_matches(kind, names, n=1))
            yield f'{path}.type={kind!r} is not registered{near}; parts of your own are registered by custom_imports'
    found = [_keywords(kind, path.startswith('model')) for kind in kinds]
    known = [keywords for keywords in found if keywords is not None]
    if kinds and len(known) == len(kinds):
        hook_keys = {'priority'} if path.split('.')[0] in HOOK_SECTIONS else set()
        yield from _unknown(part, BUILDER_KEYS.union(hook_keys, *known), path)
        if len(kinds) == 1:
            yield from _wrong_types(part, known[0], kinds[0], path)


def _unknown(part: Mapping, allowed: Iterable[str], path: str) -> Iterator[str]:
    for key in sorted(part.keys() - set(allowed)):
        kind = part.get('type')
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        near = did_you_mean(get_close_matches(key, allowed, n=1))
        yield f'{path}.{key} is not an argument{" of " if name else ""}{name}{near}'


def _wrong_types(part: Mapping, keywords: Mapping[str, Any], kind: Callable, path: str) -> Iterator[str]:
    """Values that do not fit their annotation; in other projects, whose annotations may be wrong, only strings."""
    for key, (hint, required) in keywords.items():
        if key in part and (is_ours(kind) or isinstance(part[key], str)) and not fits(part[key], hint):
            yield (
                f'{path}.{key}={reprlib.repr(part[key])} has type {type(part[key]).__name__}, and {kind.__name__} '
                f'expects {inspect.formatannotation(hint)}'
            )
        # Outside the model the runner fills in arguments: the data set of a sampler, and so on.
        elif key not in part and required and is_ours(kind) and path.split('.')[0] == 'model':
            yield f'{path} lacks {key}, which {kind.__name__} needs'


@cache
def _keywords(kind: Any, in_model: bool = False) -> dict[str, tuple[Any, bool]] | None:
    """The keywords of a class or function, with their types and whether they are required; None if it takes any.

    A class with `**kwargs` is assumed to pass them to its parent, unless it is a model part of another project.
    """
    found: dict[str, tuple[Any, bool]] = {}
    closed = True
    for owner in [one for one in kind.__mro__ if '__init__' in vars(one)] if inspect.isclass(kind) else [kind]:
        if owner is object:
            return found if closed and kind.__new__ is object.__new__ else None
        function = owner.__init__ if inspect.isclass(owner) else owner
        try:
            parameters, hints = inspect.signature(function).parameters.values(), get_type_hints(function)
        except (TypeError, ValueError, NameError):
            return None
        for one in parameters:
            # The class may fill in what its parent requires.
            required = owner is kind and one.default is one.empty and one.name not in FILLED_IN
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
                found.setdefault(one.name, (hints.get(one.name, Any), required))
        if owner in COMPLETE or all(one.kind != one.VAR_KEYWORD for one in parameters):
            return found
        closed = closed and is_ours(owner)
        if in_model and not closed:
            return None
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config fits a type hint; lists pass for tuples, because JSON has only lists."""
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if isinstance(value, Mapping) and 'type' in value:  # the part built from it may be anything
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


def _project(kind: Callable) -> str:
    return (getattr(kind, '__module__', None) or '').split('.')[0]


def is_ours(kind: Callable) -> bool:
    """Whether a class or function is of this project."""
    return _project(kind) == __name__.split('.')[0]


def _registered(registry: Registry, kind: str) -> Any:
    """`registry.get`, which would import a module of any plain name that is not registered."""
    registry.import_from_location()
    return registry.get(kind) if '.' in kind or kind in _names(registry) else None


def _names(registry: Registry) -> Iterator[str]:
    for one in _with_parents(registry):
        yield from one.module_dict


def _with_parents(registry: Registry | None) -> Iterator[Registry]:
    while registry is not None:
        yield registry
        registry = registry.parent


def did_you_mean(near: Sequence[str]) -> str:
    return f'; did you mean {near[0]}?' if near else ''
