"""Safe reading of checkpoints: tensors and plain Python values only, with every version of torch, from every source."""

import os.path as osp
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import first_line, log_warning
from . import restricted_unpickler
from .placeholders import without_placeholders

_REMEDY = 'download or save it again, or remove it from its work dir, and --resume takes the one before'
_MAP_FILES = ContextVar('map_files', default=False)
# The keys under which training programs keep the weights; mmengine's is the first.
_WEIGHT_KEYS = ('state_dict', 'model', 'model_state_dict')


class CheckpointError(RuntimeError):
    """A checkpoint that cannot or must not be read; the message is one line."""


@contextmanager
def mapped_files() -> Iterator[None]:
    """Map local checkpoints into memory within the block instead of reading them; see `load_from_local`.

    Use it for weights that are copied into a model and then dropped: a process that overwrites a file that it has
    mapped is killed by SIGBUS.
    """
    token = _MAP_FILES.set(True)
    try:
        yield
    finally:
        _MAP_FILES.reset(token)


def not_found(filename: str) -> str:
    """The error for a checkpoint that does not exist."""
    return f'checkpoint {filename} not found: check the path; tools/train.py writes its checkpoints to the --work-dir'


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Read a local checkpoint without running any code in it; objects of unknown classes are left out.

    Within `mapped_files` the file is mapped into memory: a tensor on the CPU is read when it is used, and the processes
    of a machine share it. Writing to such a tensor does not change the file. Formats that cannot be mapped are read.

    Args:
        filename: A `.safetensors` file, or anything that `torch.load` reads.
        map_location: As in `torch.load`.

    Returns:
        The checkpoint. For a `.safetensors` file: the tensors as `state_dict`, and the file's metadata as `meta`.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, or asks for a function of Python.
    """
    path = osp.expanduser(filename)
    if not osp.isfile(path):
        raise FileNotFoundError(not_found(filename))
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    # Errors of opening the file are not errors of its content. Only zip files, which torch writes since 1.6, can be
    # mapped.
    with open(path, 'rb') as file:
        mmap = _MAP_FILES.get() and file.read(4) == b'PK\x03\x04'
    try:
        if mmap:
            _check_zip_headers(path)
        try:
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
        except RuntimeError as error:
            # Some file systems cannot map, and limits on the address space forbid it.
            if not mmap or 'unable to mmap' not in str(error):
                raise
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        return _read_without_objects(path, filename, map_location, mmap)
    except Exception as error:  # a damaged stream may raise nearly anything, say the docs of `pickle`
        raise CheckpointError(
            f'checkpoint {filename} is damaged or not a checkpoint ({first_line(error)}): {_REMEDY}'
        ) from error


def _read_without_objects(path: str, filename: str, map_location: Any, mmap: bool) -> dict:
    """Read the tensors and plain values of a checkpoint that also holds other objects, which are left out.

    Raises:
        CheckpointError: The file is damaged, or asks for functions of Python.
    """
    try:
        # TorchScript is code.
        if is_zipfile(path) and any(name.endswith('/constants.pkl') for name in ZipFile(path).namelist()):
            raise pickle.UnpicklingError('GLOBAL torch.jit archive')
        checkpoint = torch.load(
            path, map_location=map_location, weights_only=False, pickle_module=restricted_unpickler, mmap=mmap
        )
        checkpoint, left_out = without_placeholders(checkpoint)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(filename, str(error))) from error
    except Exception as error:  # as above
        raise CheckpointError(
            f'checkpoint {filename} is damaged or not a checkpoint ({first_line(error)}): {_REMEDY}'
        ) from error
    if left_out:
        names = ', '.join(f'{name} ({count})' for name, count in left_out.most_common(5))
        log_warning(
            f'checkpoint {filename}: objects of other programs were left out, and nothing in them was run: {names}'
        )
    return checkpoint


def key_of_weights(checkpoint: Mapping) -> str | None:
    """The key under which a checkpoint has its weights; None if they are at the top level."""
    return next((key for key in _WEIGHT_KEYS if isinstance(checkpoint.get(key), Mapping)), None)


def weights_of(checkpoint: Any, source: str = 'the checkpoint') -> dict[str, Tensor]:
    """The weights in a checkpoint by name, without the prefix `module.`.

    Args:
        checkpoint: The weights by name, or a dict that has them as `state_dict`, as mmengine writes it. After an EMA
            hook these are the averaged ones.
        source: What to call the checkpoint in errors.

    Raises:
        CheckpointError: It has no weights.
    """
    weights = checkpoint
    if isinstance(checkpoint, Mapping):
        key = key_of_weights(checkpoint)
        weights = checkpoint if key is None else checkpoint[key]
    if (
        not isinstance(weights, Mapping)
        or not weights
        or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
    ):
        found = f'only {", ".join(map(str, weights))}' if isinstance(weights, Mapping) and weights else 'nothing'
        raise CheckpointError(
            f'checkpoint {source} holds no weights: they are expected at the top level or under '
            f'{", ".join(_WEIGHT_KEYS)}, and there is {found}'
        )
    return {name.removeprefix('module.'): value for name, value in weights.items()}


def _check_zip_headers(path: str) -> None:
    """Raise an error if the table of a zip file does not match the headers of its records.

    torch checks this only when it reads a file. In a mapped file, a damaged header would shift the tensor after it.
    """
    with ZipFile(path) as file:
        for record in file.infolist():
            file.open(record).close()


def _load_safetensors(path: str, map_location: Any) -> dict:
    device = str(map_location) if isinstance(map_location, (str, torch.device)) else 'cpu'
    try:
        with safe_open(path, framework='pt', device=device) as file:
            return dict(state_dict={key: file.get_tensor(key) for key in file.keys()}, meta=file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(
            f'checkpoint {path} is damaged or not a safetensors file ({first_line(error)}): download or save it again'
        ) from error


def _refusal(filename: str, message: str) -> str:
    """Shorten torch's page of advice to the name of the refused class."""
    found = re.search(r'(?:GLOBAL|class) ([\w.]*\w)', message)
    if found is None:
        return f'checkpoint {filename} is damaged or not a checkpoint: {_REMEDY}'
    return (
        f"checkpoint {filename} was refused and nothing in it was run: it holds '{found.group(1)}', and only "
        'tensors and plain Python values are read; ask its author for the weights as safetensors'
    )
