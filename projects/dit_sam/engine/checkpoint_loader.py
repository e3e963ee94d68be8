"""How checkpoints are read: tensors and plain Python values only, whatever the torch version and wherever they lie.

Importing this module makes it mmengine's loader of files, URLs and names, so ``load_from``, ``resume``, ``init_cfg``
and ``mmengine.runner.load_checkpoint`` all come through here.
"""

import os
import os.path as osp
import pickle
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any
from unittest import mock
from urllib.parse import urlparse
from zipfile import ZipFile

import torch
from mmengine.dist import barrier
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    _get_mmengine_home,
    _load_checkpoint,
    _process_mmcls_checkpoint,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from safetensors import SafetensorError, safe_open

# Seconds that a server may say nothing; torch would wait for ever.
SILENCE = 60
_REMEDY = 'fetch or save it anew, or remove it from its work dir, and --resume takes the one before'
_MAPPING = ContextVar('mapping', default=False)
_CATALOGUES = {
    'torchvision': get_torchvision_models,
    'modelzoo': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
    'mmcls': get_mmcls_models,
}


class CheckpointError(RuntimeError):
    """A checkpoint that cannot or must not be read; the message is one line."""


@contextmanager
def mapped_files() -> Iterator[None]:
    """While it lasts, local checkpoints are mapped into memory and not read, see `load_from_local`.

    For what is copied into a model and let go: a program that writes over a file that it has mapped is ended by SIGBUS.
    """
    token = _MAPPING.set(True)
    try:
        yield
    finally:
        _MAPPING.reset(token)


@contextmanager
def runners_map_checkpoints() -> Iterator[None]:
    """While it lasts, runners and mmengine's `load_checkpoint` map the checkpoints that go into a model.

    `CheckpointLoader.load_checkpoint`, which hands one to its caller, reads it as ever.
    """
    with ExitStack() as stack:
        # Runner has it under its own name, the strategies of FlexibleRunner import it at each use.
        for module in ('mmengine.runner.runner', 'mmengine.runner.checkpoint'):
            stack.enter_context(mock.patch(f'{module}._load_checkpoint', _load_mapped))
        yield


def _load_mapped(*args: Any, **kwargs: Any) -> dict:
    with mapped_files():
        return _load_checkpoint(*args, **kwargs)


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Read a local checkpoint without running anything that is in it.

    Within `mapped_files`, the file is mapped into memory: a tensor on the CPU is read when it is used, and processes of
    a machine share what was read. Writing to such a tensor leaves the file as it is. Formats that cannot be mapped are
    read.

    Args:
        filename (str): A ``.safetensors`` file, or anything else for ``torch.load``.
        map_location (str | torch.device | Callable, optional): Same as in ``torch.load``.

    Returns:
        dict: The checkpoint. From a ``.safetensors`` file, ``state_dict`` with the tensors and ``meta`` with the
        file's metadata (str to str).

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, or holds anything but tensors and plain Python values.
    """
    path = osp.expanduser(filename)
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'checkpoint {filename} not found: check the path; tools/train.py writes its checkpoints to the --work-dir'
        )
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    # What cannot be opened is not for lack of bytes. Only zip files, as torch writes them since 1.6, can be mapped.
    with open(path, 'rb') as file:
        mmap = _MAPPING.get() and file.read(4) == b'PK\x03\x04'
    try:
        if mmap:
            _check_heads(path)
        try:
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
        except RuntimeError as error:
            # Some file systems cannot map, and limits on address space forbid it.
            if not mmap or 'unable to mmap' not in str(error):
                raise
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(filename, str(error))) from error
    except Exception as error:  # a damaged stream may raise nearly anything, say the docs of `pickle`
        raise CheckpointError(
            f'checkpoint {filename} is damaged or not a checkpoint ({_first_line(error)}): {_REMEDY}'
        ) from error


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Download a checkpoint into torch's cache, once a machine, and read it like a local one.

    mmengine passes URLs to ``torch.hub``, which unpickles them without a guard in every version of torch so far.

    Args:
        filename (str): The URL.
        map_location (str | torch.device | Callable, optional): Same as in ``torch.load``.

    Returns:
        dict: The checkpoint, as from `load_from_local`.

    Raises:
        CheckpointError: If the download fails, or as in `load_from_local`.
    """
    path = osp.join(torch.hub.get_dir(), 'checkpoints', osp.basename(urlparse(filename).path))
    failure = None
    if int(os.environ.get('LOCAL_RANK', 0)) == 0 and not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(SILENCE)
        try:
            torch.hub.download_url_to_file(filename, path, progress=False)
        except OSError as error:
            failure = error
        finally:
            socket.setdefaulttimeout(before)
    # The others do not wait for a file that does not come.
    barrier()
    if failure is not None or not osp.isfile(path):
        raise CheckpointError(
            f'checkpoint {filename} could not be downloaded '
            f'({_first_line(failure) if failure else "by the first rank of this machine"}): fetch it '
            'by other means and name the file instead'
        ) from failure
    return load_from_local(path, map_location)


@CheckpointLoader.register_scheme(
    prefixes=('torchvision://', 'modelzoo://', 'open-mmlab://', 'openmmlab://', 'mmcls://'), force=True
)
def load_from_catalogue(filename: str, map_location: Any = None) -> dict:
    """Read a checkpoint by the name under which mmengine knows its address, as `open-mmlab://resnet50_v1c`.

    mmengine's own loaders go around those above.

    Args:
        filename (str): Catalogue and name.
        map_location (str | torch.device | Callable, optional): Same as in ``torch.load``.

    Returns:
        dict: The checkpoint, as from `load_from_local`.

    Raises:
        CheckpointError: The catalogue does not have the name or cannot be opened, or as in `load_from_http`.
    """
    catalogue, name = filename.split('://', 1)
    try:
        addresses = _CATALOGUES[catalogue]()
    # A torchvision built for another torch fails with ImportError, OSError, RuntimeError or AttributeError.
    except Exception as error:
        raise CheckpointError(
            f'checkpoint {filename}: the catalogue does not open ({_first_line(error)}): fetch the '
            'file by other means and name it instead'
        ) from error
    name = get_deprecated_model_names().get(name, name) if 'mmlab' in catalogue else name
    if name not in addresses:
        near = ', '.join(get_close_matches(name, addresses))
        raise CheckpointError(f'checkpoint {filename}: {catalogue} has no such name{near and ", but "}{near}')
    # An address of one's own catalogue may be a file.
    file = addresses[name] if '://' in addresses[name] else osp.join(_get_mmengine_home(), addresses[name])
    checkpoint = CheckpointLoader.load_checkpoint(file, map_location)
    return _process_mmcls_checkpoint(checkpoint) if catalogue == 'mmcls' else checkpoint


@CheckpointLoader.register_scheme(prefixes=('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), force=True)
def load_from_store(filename: str, map_location: Any = None) -> dict:
    """Refuse what mmengine would fetch from a store and unpickle without a guard.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(f'checkpoint {filename}: files of such a store are not read; copy it here and name the copy')


def _check_heads(path: str) -> None:
    """Raise an error where the table of a zip file does not fit the heads of its records, as torch does that reads it.

    A file that is mapped is not looked at there, and a damaged head moves the tensor behind it.
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
            f'checkpoint {path} is damaged or not a safetensors file ({_first_line(error)}): fetch or save it anew'
        ) from error


def _refusal(filename: str, message: str) -> str:
    """Shorten torch's page of advice to the name of what it stumbled over."""
    found = re.search(r'(?:GLOBAL|class) ([\w.]*\w)', message)
    if found is None:
        return f'checkpoint {filename} is damaged or not a checkpoint: {_REMEDY}'
    return (
        f"checkpoint {filename} was refused and nothing in it was run: it holds '{found.group(1)}', and only "
        'tensors and plain Python values are read; ask its author for the weights as safetensors'
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split('\n')[0]
