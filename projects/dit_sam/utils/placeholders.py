"""What objects in foreign checkpoints become: plain values, and placeholders that do nothing."""

from collections import Counter, OrderedDict
from typing import Any, cast

import numpy as np


class Placeholder:
    """Stands for an object of an unknown class; whatever is done to it while unpickling has no effect."""

    name = ''
    # Asked for in torch's files from before 1.6. If it were true, torch would write a patch file.
    dump_patches = False

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Placeholder':
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class PathText(Placeholder):
    """A path as text."""

    def __init__(self, *parts: Any) -> None:
        self.value = '/'.join(part for part in parts if isinstance(part, str)).replace('//', '/')


class Dtype(Placeholder):
    """numpy's dtype; its state holds the byte order."""

    def __init__(self, spec: Any = '', *rest: Any) -> None:
        self.spec, self.order = spec if isinstance(spec, str) else '', '='

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if isinstance(state[1], str) else ''

    def read(self, data: Any, shape: tuple | None = None) -> Any:
        """Numbers and texts in bytes, as plain values; a placeholder for other kinds."""
        data = data.encode('latin1') if isinstance(data, str) else data
        if self.spec[:1] not in 'biufcUS?' or not isinstance(data, bytes) or self.order not in ('=', '<', '>', '|'):
            return Placeholder()
        if not data:
            return Placeholder() if shape is None else np.empty(0)
        values = np.frombuffer(data, np.dtype(self.spec).newbyteorder(cast(Any, self.order)))
        return values[0].item() if shape is None else values.reshape(shape)


class Array(Placeholder):
    """A numpy array, as nested lists."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        values = dtype.read(data, shape[::-1] if is_fortran else shape) if isinstance(dtype, Dtype) else None
        self.value = (values.T if is_fortran else values).tolist() if isinstance(values, np.ndarray) else None


def without_placeholders(value: Any) -> tuple[Any, Counter]:
    """The value rebuilt of plain containers, and the names of the classes that were left out, counted.

    Entries of dicts that are placeholders are dropped; in lists and tuples None takes their place.
    """
    left_out: Counter = Counter()

    # Containers that are shared are rebuilt once; unfolded, a file of some bytes could fill the memory.
    done: dict[int, Any] = {}

    def clean(part: Any) -> Any:
        if id(part) not in done:
            rebuilt = rebuild(part)
            if rebuilt is part or isinstance(part, Placeholder):
                return rebuilt
            done[id(part)] = rebuilt
        return done[id(part)]

    def rebuild(part: Any) -> Any:
        if getattr(part, 'value', None) is not None and isinstance(part, (PathText, Array)):
            return part.value
        if isinstance(part, Placeholder) or (isinstance(part, type) and issubclass(part, Placeholder)):
            left_out[part.name or 'of numpy'] += 1
            return None
        if isinstance(part, dict):
            cleaned = [(clean(key), clean(item), item) for key, item in dict.items(part)]
            pairs = [(key, new) for key, new, old in cleaned if new is not None or old is None]
            if type(part) is not OrderedDict:
                return dict(pairs)
            ordered = OrderedDict(pairs)
            # Versions of modules, in state dicts.
            if '_metadata' in part.__dict__:
                ordered.__dict__['_metadata'] = clean(part.__dict__['_metadata'])
            return ordered
        if type(part) in (list, tuple, set, frozenset):
            return type(part)(clean(item) for item in part)
        return part

    return clean(value), left_out
