"""Reading pickles of other programs for their tensors and plain values, without running what is in them.

Used with `torch.load(pickle_module=...)` for checkpoints that `weights_only=True` refuses, such as those of mmengine's
own hooks, which hold `HistoryBuffer` objects and numpy scalars. Nothing is imported, and nothing is called but torch's
own functions that rebuild tensors, those of numpy scalars and arrays written anew here, and the constructors of
placeholders, which do nothing.
"""

import pickle
import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch._weights_only_unpickler import _get_allowed_globals

from .placeholders import Array, Dtype, PathText, Placeholder

# Parts of objects in Python itself, which become placeholders too; `getattr` stands for a method. Anything else of the
# standard library is refused.
_INERT_IN_PYTHON = {
    'argparse.Namespace',
    'copyreg._reconstructor',
    'datetime.date',
    'datetime.datetime',
    'datetime.timedelta',
    'functools.partial',
    'builtins.getattr',
    'builtins.object',
}
_PATHS = {f'pathlib{local}.{name}' for local in ('', '._local') for name in ('PosixPath', 'WindowsPath', 'Path')}
_NUMPY = ('numpy.core', 'numpy._core')
# Classes of dicts, whose content is kept.
_DICTS = {'mmengine.config.config.ConfigDict', 'mmcv.utils.config.ConfigDict', 'addict.addict.Dict', 'addict.Dict'}


def _scalar(dtype: Any, data: Any) -> Any:
    return dtype.read(data) if isinstance(dtype, Dtype) else Placeholder()


def _array(*args: Any) -> Array:
    return Array()


def _array_of_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """numpy's own form of arrays in protocol 5."""
    array = Array()
    array.__setstate__((1, shape, dtype, order == 'F', bytes(data)))
    return array


def _encode(text: str, encoding: str) -> bytes:
    """`_codecs.encode`, as bytes are pickled in protocol 2."""
    if not isinstance(text, str) or encoding != 'latin1':
        raise pickle.UnpicklingError('_codecs.encode of other than latin1 text')
    return text.encode('latin1')


class Unpickler(pickle._Unpickler):  # type: ignore[misc, name-defined]
    """A pickle.Unpickler that resolves names to the allowed functions and to placeholders.

    Raises:
        pickle.UnpicklingError: The pickle asks for a function of the standard library, or does to an object what only
            code could need.
    """

    dispatch = dict(pickle._Unpickler.dispatch)  # type: ignore[attr-defined]
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list]

    def __init__(self, file: BinaryIO, **kwargs: Any) -> None:
        super().__init__(file, **kwargs)
        self._allowed = dict(_get_allowed_globals())
        # They call what they are given.
        for name in ('torch._tensor._rebuild_from_type_v2', 'torch._utils._rebuild_wrapper_subclass'):
            self._allowed.pop(name, None)
        self._allowed |= {'_codecs.encode': _encode, 'numpy.dtype': Dtype, 'numpy.ndarray': Array}
        self._allowed |= {f'{core}.multiarray.scalar': _scalar for core in _NUMPY}
        self._allowed |= {f'{core}.multiarray._reconstruct': _array for core in _NUMPY}
        self._allowed |= dict.fromkeys(
            ('numpy.core.numeric._frombuffer', 'numpy._core.numeric._frombuffer'), _array_of_buffer
        )
        self._allowed |= {'collections.defaultdict': defaultdict, 'collections.Counter': Counter}
        self._allowed |= dict.fromkeys(_PATHS, PathText) | dict.fromkeys(_DICTS, OrderedDict)
        containers = (set, frozenset, complex, list, dict, tuple)
        self._allowed |= {f'builtins.{kind.__name__}': kind for kind in containers}
        # Named, as in a column's type, and not called.
        self._types = {f'builtins.{kind.__name__}': kind for kind in (bool, int, float, str, bytes)}
        self._made: dict[str, type[Placeholder]] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Before protocol 3 names are those of Python 2.
        module, name = NAME_MAPPING.get((module, name), (module, name))
        full = f'{IMPORT_MAPPING.get(module, module)}.{name}'
        if not re.fullmatch(r'[\w.<>]{1,200}', full):
            raise pickle.UnpicklingError(f'GLOBAL {re.sub("[^a-zA-Z0-9_.]", "_", full)[:60]} is not a name')
        if full in self._allowed:
            return self._allowed[full]
        if full in self._types:
            return self._types[full]
        if full.partition('.')[0] in sys.stdlib_module_names and full not in _INERT_IN_PYTHON:
            raise pickle.UnpicklingError(f'GLOBAL {full} is refused')
        return self._made.setdefault(full, type('Placeholder', (Placeholder,), dict(name=full)))

    def _call(self, function: Any, args: Any) -> Any:
        if function is bytes and args == ():
            # As empty bytes are pickled in protocol 2.
            return b''
        is_placeholder = isinstance(function, type) and issubclass(function, Placeholder)
        if not is_placeholder and not any(function is allowed for allowed in self._allowed.values()):
            raise pickle.UnpicklingError(
                f'GLOBAL {getattr(function, "__qualname__", type(function).__name__)} is called'
            )
        if function is defaultdict:
            # Its factory would be called later.
            return defaultdict()
        return function(*args)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], () if self.stack[-1] is OrderedDict else args)

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_newobj()

    def _instantiate(self, klass: Any, args: Any) -> None:
        self.append(self._call(klass, args))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is torch.Tensor:
            target.set_(*state)
        elif type(target) is torch.nn.Parameter or isinstance(target, Placeholder):
            target.__setstate__(state)
        elif type(target) is OrderedDict:
            # Versions of modules, in state dicts.
            if isinstance(state, dict) and '_metadata' in state:
                target.__dict__['_metadata'] = state['_metadata']
        else:
            raise pickle.UnpicklingError(f'GLOBAL {type(target).__name__} gets a state')

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) in (dict, OrderedDict, Counter, defaultdict):
            for key, value in zip(items[::2], items[1::2]):
                dict.__setitem__(target, key, value) if type(target) is not OrderedDict else target.update({key: value})
        elif not isinstance(target, Placeholder):
            raise pickle.UnpicklingError(f'GLOBAL {type(target).__name__} gets items')

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError(f'GLOBAL {type(self.stack[-1]).__name__} gets items of a set')
        self.stack[-1].update(items)

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is list:
            self.stack[-1].extend(items)
        elif not isinstance(self.stack[-1], Placeholder):
            raise pickle.UnpicklingError(f'GLOBAL {type(self.stack[-1]).__name__} gets items')

    def load_extension(self) -> None:
        raise pickle.UnpicklingError('GLOBAL copyreg extension')


for _code, _method in dict(
    REDUCE='load_reduce',
    NEWOBJ='load_newobj',
    NEWOBJ_EX='load_newobj_ex',
    BUILD='load_build',
    SETITEM='load_setitem',
    SETITEMS='load_setitems',
    APPEND='load_append',
    APPENDS='load_appends',
    ADDITEMS='load_additems',
    EXT1='load_extension',
    EXT2='load_extension',
    EXT4='load_extension',
).items():
    Unpickler.dispatch[getattr(pickle, _code)[0]] = getattr(Unpickler, _method)


def load(file: BinaryIO, **kwargs: Any) -> Any:
    """As `pickle.load`, for torch's files from before 1.6, which are several pickles."""
    return Unpickler(file, **kwargs).load()
