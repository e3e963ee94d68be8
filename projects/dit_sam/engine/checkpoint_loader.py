"""How checkpoints on disk are read: tensors and plain Python values only, whatever the torch version.

Importing this module makes it mmengine's loader of local files and of URLs, so ``load_from``, ``resume``, ``init_cfg``
and ``mmengine.runner.load_checkpoint`` all come through here.
"""
import os
import os.path as osp
import pickle
import re
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier
from mmengine.runner import CheckpointLoader
from safetensors import SafetensorError, safe_open


class CheckpointError(RuntimeError):
    """A checkpoint that cannot or must not be read; the message is one line."""


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Read a local checkpoint without running anything that is in it.

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
        raise FileNotFoundError(f'checkpoint {filename} not found: check the path; tools/train.py writes its '
                                'checkpoints to the --work-dir')
    if path.endswith('.safetensors'):
        return _load_safetensors(path, map_location)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(filename, str(error))) from None
    except (EOFError, RuntimeError, ValueError) as error:
        raise CheckpointError(f'checkpoint {filename} is damaged or not a checkpoint '
                              f'({_first_line(error)}): fetch or save it anew') from None


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
    if int(os.environ.get('LOCAL_RANK', 0)) == 0 and not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        try:
            torch.hub.download_url_to_file(filename, path, progress=False)
        except OSError as error:
            raise CheckpointError(f'checkpoint {filename} could not be downloaded ({_first_line(error)}): fetch it by '
                                  'other means and name the file instead') from None
    barrier()
    return load_from_local(path, map_location)


def _load_safetensors(path: str, map_location: Any) -> dict:
    device = str(map_location) if isinstance(map_location, (str, torch.device)) else 'cpu'
    try:
        with safe_open(path, framework='pt', device=device) as file:
            return dict(state_dict={key: file.get_tensor(key) for key in file.keys()}, meta=file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f'checkpoint {path} is damaged or not a safetensors file ({_first_line(error)}): '
                              'fetch or save it anew') from None


def _refusal(filename: str, message: str) -> str:
    """Shorten torch's page of advice to the name of what it stumbled over."""
    found = re.search(r'(?:GLOBAL|class) ([\w.]*\w)', message)
    if found is None:
        return f'checkpoint {filename} is damaged or not a checkpoint: fetch or save it anew'
    return (f"checkpoint {filename} was refused and nothing in it was run: it holds '{found.group(1)}', and only "
            'tensors and plain Python values are read; ask its author for the weights as safetensors')


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).split('\n')[0]
