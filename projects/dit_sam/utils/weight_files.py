"""Files of weights: read from several formats, written completely or not at all."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError, first_line
from .checkpoint_sources import read_checkpoint
from .checkpoints import weights_of
from .files import atomic_write, check_file, wrap_write_errors

# Files that transformers' `save_pretrained` writes to a folder; an index names the files that weights are split into.
_IN_FOLDERS = ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json')
_SUFFIXES = ('.safetensors', '.pth')


def read_weights(path: str) -> dict[str, Tensor]:
    """The weights by name, without a wrapper's `module.`; no code in a file is run.

    Args:
        path: A checkpoint (`.safetensors`, or anything that `torch.save` wrote), its URL, or a folder written by
            transformers' `save_pretrained`.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: A file is damaged, refused, or holds no weights.
        InputError: The folder holds no weights.
    """
    weights = {}
    for file in weight_files(path):
        weights.update(weights_of(read_checkpoint(file), file))
    return weights


def weight_files(path: str) -> list[str]:
    """The file itself, or the files of a folder; errors as in `read_weights`."""
    path = os.path.expanduser(path)
    if not os.path.isdir(path):
        return [path]
    found = next((file for file in (Path(path, name) for name in _IN_FOLDERS) if file.is_file()), None)
    if found is None:
        raise InputError(f'folder {path} holds no weights: it has none of {", ".join(_IN_FOLDERS)}')
    if found.suffix != '.json':
        return [str(found)]
    try:
        shards = sorted(set(json.loads(found.read_text())['weight_map'].values()))
        return [str(found.with_name(shard)) for shard in shards]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f'{found} is damaged or not an index of weights: download it again') from error


def check_target(path: str, sources: Sequence[str] = ()) -> None:
    """Check a file before `save_weights` writes it.

    Args:
        path: The file to write.
        sources: Files that are read.

    Raises:
        InputError: It does not end in `.safetensors` or `.pth`, it is one of the sources, or as in `check_file`.
    """
    if not path.endswith(_SUFFIXES):
        raise InputError(f'{path}: the file to write must end in {" or ".join(_SUFFIXES)}')
    check_file(path)
    if any(os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source) for source in sources):
        raise InputError(f'{path} is the file to read too: name another one to write')


def save_weights(path: str, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write weights to a file by `atomic_write`.

    Args:
        path: `*.safetensors`, or any other name for `torch.save`.
        weights: Weights by name.
        metadata: Text to store with them: in the header of `.safetensors`, otherwise as `meta` next to `state_dict`.
            Without it `torch.save` gets only the weights, as in SAM's own files.

    Raises:
        InputError: The file could not be written.
    """
    write = _write_safetensors if path.endswith('.safetensors') else _write_pth
    # safetensors refuses tied weights, which share memory.
    weights = {name: value.clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    try:
        with wrap_write_errors(path), atomic_write(path) as temporary:
            write(temporary, weights, metadata)
    except (RuntimeError, SafetensorError) as error:
        # torch reports a full disk in its own words; the system's reason is in the context.
        reason = first_line(error.__context__ or error)
        raise InputError(f'{path} could not be written: {reason}; make room, or name another place') from error


def _write_safetensors(path: Path, weights: dict[str, Tensor], metadata: Mapping[str, str] | None) -> None:
    # transformers refuses a file whose header does not name its format.
    save_file(weights, path, {'format': 'pt', **(metadata or {})})
    # safetensors makes files that only the owner can read; give them the permissions of the folder. On Windows the mode
    # of a folder says something else.
    if os.name != 'nt':
        path.chmod(path.parent.stat().st_mode & 0o666)


def _write_pth(path: Path, weights: dict[str, Tensor], metadata: Mapping[str, str] | None) -> None:
    with open(path, 'wb') as file:
        torch.save(weights if metadata is None else dict(state_dict=weights, meta=dict(metadata)), file)
