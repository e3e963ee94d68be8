"""Where checkpoints come from: files, servers, hubs and mmengine's catalogs, all read safely."""

import hashlib
import os
import os.path as osp
import re
import shutil
from collections.abc import Callable
from difflib import get_close_matches
from http.client import HTTPException
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.dist import barrier
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    _get_mmengine_home,
    _process_mmcls_checkpoint,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from ..errors import first_line
from .checkpoints import CheckpointError, load_from_local
from .files import atomic_write
from .hub import hub_file, split_address

# Seconds to wait for a server.
TIMEOUT = 60
_CATALOGS = {
    'torchvision': get_torchvision_models,
    'modelzoo': get_torchvision_models,
    'open-mmlab': get_external_models,
    'openmmlab': get_external_models,
    'mmcls': get_mmcls_models,
}


def read_checkpoint(filename: str, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint from a file, a URL, a hub or one of mmengine's catalogs without running any code in it.

    Args:
        filename: A `.safetensors` file, or anything that `torch.load` reads; or its address, also `hf://user/name/file`
            or `hf://user/name@revision/file`.
        map_location: As in `torch.load`.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The checkpoint is damaged or cannot be fetched, or asks for a function of Python.
    """
    loader = next(loader for prefixes, loader in _loaders().items() if re.match('|'.join(prefixes), filename))
    return loader(filename, map_location)


def register_loaders() -> None:
    """Make the loaders of this module mmengine's own, for the whole process.

    `load_from`, `resume`, `init_cfg` and `mmengine.runner.load_checkpoint` then read safely too.
    """
    for prefixes, loader in _loaders().items():
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


def _loaders() -> dict[tuple[str, ...], Callable[[str, Any], dict]]:
    """The loaders by the beginnings of names, patterns as in `CheckpointLoader`; the first one that fits counts."""
    return {
        ('http://', 'https://'): load_from_http,
        ('hf://',): load_from_hub,
        tuple(f'{catalog}://' for catalog in _CATALOGS): load_from_catalog,
        ('pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'): load_from_store,
        ('',): load_from_local,
    }


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Download a checkpoint into torch's cache, once per machine, and read it as `load_from_local` does.

    Each address has a folder of its own in the cache; a file that changes at its address is not downloaded again.
    mmengine passes URLs to `torch.hub`, which unpickles them unsafely in every version of torch so far.

    Raises:
        CheckpointError: The download failed, or as in `load_from_local`.
    """
    path = downloaded_path(filename)
    failure = _on_first_rank(lambda: None if osp.isfile(path) else _download(filename, path))
    if failure is not None or not osp.isfile(path):
        reason = first_line(failure) if failure else 'by the first rank of this machine'
        raise CheckpointError(
            f'checkpoint {filename} could not be downloaded ({reason}): fetch it by other means and name the file '
            'instead'
        ) from failure
    return load_from_local(path, map_location)


def downloaded_path(address: str) -> str:
    """The file in torch's cache for an address."""
    # Many addresses end in `model.safetensors`.
    folder = hashlib.sha256(address.encode()).hexdigest()[:16]
    return osp.join(torch.hub.get_dir(), 'checkpoints', folder, osp.basename(urlparse(address).path))


def _download(address: str, path: str) -> None:
    request = Request(address, headers={'User-Agent': 'dit_sam'})
    with urlopen(request, timeout=TIMEOUT) as answer, atomic_write(path) as temporary:
        with open(temporary, 'wb') as file:
            shutil.copyfileobj(answer, file, 2**20)
        announced, arrived = answer.headers.get('Content-Length'), os.path.getsize(temporary)
        # A connection that breaks looks like the end of the file.
        if announced is not None and int(announced) != arrived:
            raise OSError(f'{arrived:,} of {int(announced):,} bytes arrived')


def _on_first_rank(fetch: Callable[[], Any]) -> Exception | None:
    """Call a function on one rank of each machine while the others wait; return its error, for that rank to raise."""
    failure = None
    if int(os.environ.get('LOCAL_RANK', 0)) == 0:
        try:
            fetch()
        except (OSError, HTTPException, CheckpointError) as error:
            failure = error
    # Also after a failure, because the other ranks wait here.
    barrier()
    return failure


def load_from_hub(filename: str, map_location: Any = None) -> dict:
    """Download a checkpoint from Hugging Face's hub, once per machine, and read it as `load_from_local` does.

    Raises:
        FileNotFoundError: As in `hub_file`.
        CheckpointError: The address is malformed, or as in `hub_file` and `load_from_local`.
    """
    repository, file, revision = split_address(filename)
    failure = _on_first_rank(lambda: hub_file(repository, file, revision))
    if failure is not None:
        raise failure
    # The other ranks find in the cache what the first one has left there.
    return load_from_local(hub_file(repository, file, revision, cached=True), map_location)


def load_from_catalog(filename: str, map_location: Any = None) -> dict:
    """Read a checkpoint by its name in one of mmengine's catalogs, such as `open-mmlab://resnet50_v1c`.

    Raises:
        CheckpointError: The catalog cannot be opened or does not have the name, or as in `load_from_http`.
    """
    catalog, name = filename.split('://', 1)
    try:
        addresses = _CATALOGS[catalog]()
    # A torchvision built for another torch fails with ImportError, OSError, RuntimeError or AttributeError.
    except Exception as error:
        raise CheckpointError(
            f'checkpoint {filename}: the catalog cannot be opened ({first_line(error)}): fetch the file by other '
            'means and name it instead'
        ) from error
    name = get_deprecated_model_names().get(name, name) if 'mmlab' in catalog else name
    if name not in addresses:
        near = ', '.join(get_close_matches(name, addresses))
        raise CheckpointError(f'checkpoint {filename}: {catalog} has no such name{near and ", but "}{near}')
    # Users may have their own catalogs, which name files.
    file = addresses[name] if '://' in addresses[name] else osp.join(_get_mmengine_home(), addresses[name])
    checkpoint = read_checkpoint(file, map_location)
    return _process_mmcls_checkpoint(checkpoint) if catalog == 'mmcls' else checkpoint


def load_from_store(filename: str, map_location: Any = None) -> dict:
    """Refuse a checkpoint that mmengine would fetch from an object store and unpickle unsafely.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(f'checkpoint {filename}: object stores are not read; copy the file here and name the copy')
