"""Models as folders and hub repositories: weights, config as data, tokenizer and model card."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor

from ..engine.launch import load_config
from ..errors import InputError, first_line
from ..mmengine_extras.config_check import check_config
from ..models.text_encoders import save_tokenizer
from ..utils import atomic_write_text, check_folder, save_weights, state_dict_mismatch, wrap_write_errors
from ..utils.checkpoints import CheckpointError
from ..utils.hub import hub_file, split_repository
from ..version import __version__
from .model_card import model_card
from .model_source import ASSETS
from .released import EVF_SAM, open_evf_sam, read_settings, released_models
from .shared_config import FORMAT, as_json, read_shared_config, set_tokenizer, shared_config, tokenizer_source

CONFIG, WEIGHTS, CARD = 'config.json', 'model.safetensors', 'README.md'
_TOKENIZER_SETTINGS = 'tokenizer_config.json'
_PACKAGES = ('torch', 'transformers', 'mmengine', 'mmsegmentation')


def open_pretrained(name: str | os.PathLike) -> tuple[Config, str]:
    """The config and the path of the weights of a shared model; nothing in it is run.

    Args:
        name: A folder that `save_pretrained` wrote, or a repository of the hub: `user/name`, `user/name@revision`; a
            folder or repository of EVF-SAM; or a name of `dit-sam list-models`.

    Returns:
        The config for `ReferringInferencer`; other information about the model is in its key `shared`.

    Raises:
        FileNotFoundError: There is no such folder, repository, revision or file.
        CheckpointError: As in `hub_file`.
        InputError: As in `read_shared_config`, or a file of the folder is a link that leads out of it.
    """
    name = os.fspath(name)
    shipped = ASSETS / f'{name}.safetensors'
    if re.fullmatch(r'[\w-]+', name) and shipped.is_file() and not Path(name).is_dir():
        return load_config(f'dit_sam::{name}.py'), str(shipped)
    released = released_models().get(name)
    file = _files_of(name if released is None or Path(name).is_dir() else released.repository)
    source = f'{CONFIG} of {name}'
    path = file(CONFIG)
    settings = read_settings(path)
    if settings.get('model_type') == EVF_SAM:
        return open_evf_sam(name, settings, file)
    data = read_shared_config(path, source)
    if tokenizer_source(data) is not None:
        file(_TOKENIZER_SETTINGS)
        set_tokenizer(data, file)
    config = dict(
        default_scope=data['default_scope'],
        model=data['model'],
        test_dataloader=dict(dataset=dict(pipeline=data['pipeline'])),
        shared={key: data.get(key) for key in ('name', 'license', 'training')},
    )
    check_config(config, source)
    return Config(config, filename=path), file(WEIGHTS)


@contextmanager
def naming_what_cannot_be_built(name: str | os.PathLike) -> Iterator[None]:
    """Context of building a shared model, in which what its sizes lead to becomes an `InputError`.

    For example no memory, a division by zero, or a failed assertion.
    """
    try:
        yield
    except (InputError, CheckpointError, OSError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        reason = f'{type(error).__name__}: {first_line(error)}'
        raise InputError(f'the model of {os.fspath(name)} cannot be built: {reason}') from error


def write_pretrained(
    folder: str | os.PathLike,
    config: Mapping,
    weights: Mapping[str, Tensor],
    about: Mapping[str, Any],
    half: bool = False,
    repository: str = '',
) -> None:
    """Write a shared model; the folder appears when it is complete and has been opened once.

    Args:
        folder: A folder that does not exist or is empty.
        config: Config with `model` and `test_dataloader`.
        weights: The weights of its model.
        about: `name`, `license` and `training`, as in `describe_training`; each may be None.
        half: Whether weights are stored in float16; loading converts them back.
        repository: The hub repository that the card names.

    Raises:
        InputError: The folder has content or cannot be written, or the config cannot be shared.
        FileNotFoundError: The tokenizer or text model that the config names is not there.
        CheckpointError: The weights do not fit the config.
    """
    target = check_new_folder(folder)
    license = about.get('license')
    if license is not None and not re.fullmatch(r'[\w.-]+', license):
        raise InputError(
            f'license {license!r} is not a license name of the hub, such as apache-2.0, cc-by-4.0 or other'
        )
    data = dict(library='dit_sam', format=FORMAT, versions=_versions(), **about, **shared_config(config))
    tokenizer = tokenizer_source(config)
    with wrap_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f'.{target.name}.{uuid4().hex[:8]}.part')
        temporary.mkdir()
        try:
            text = json.dumps(as_json(data), indent=2, ensure_ascii=False, allow_nan=True, default=_refuse_class)
            atomic_write_text(temporary / CONFIG, text + '\n')
            if tokenizer is not None:
                save_tokenizer(tokenizer, temporary)
            stored = {
                name: value.half() if half and value.is_floating_point() else value for name, value in weights.items()
            }
            read_shared_config(str(temporary / CONFIG), 'the config')
            _check_fit(data['model'], stored)
            save_weights(str(temporary / WEIGHTS), stored)
            card = model_card(data, repository or target.name, _summary(stored, temporary / WEIGHTS))
            atomic_write_text(temporary / CARD, card)
            if target.exists():
                target.rmdir()  # empty; Windows replaces no folder
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(folder: str | os.PathLike) -> Path:
    """The absolute path of a folder to write; nothing is created.

    Raises:
        InputError: It exists with content, or cannot be written.
    """
    target = Path(folder).expanduser().absolute()
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InputError(f'{folder} exists and is not an empty folder: name a new one; nothing is replaced')
    check_folder(target)
    return target


def _files_of(name: str) -> Callable[[str], str]:
    """A function that gives the path of a file of a shared model."""
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return lambda file: _file_in(folder, file)
    repository = split_repository(name)
    if repository is None or folder.exists():
        raise FileNotFoundError(
            f'no model at {name!r}: it is neither a folder, nor user/name or user/name@revision of a hub, nor one of '
            f'{", ".join([*sorted(path.stem for path in ASSETS.glob("*.safetensors")), *released_models()])}'
        )
    path, revision = repository
    # All files come from the commit of the first one, even if the branch changes meanwhile.
    try:
        commit = Path(hub_file(path, CONFIG, revision)).parent.name
    except (FileNotFoundError, CheckpointError) as error:
        raise type(error)(f'{error}; and there is no folder {name}') from error
    return lambda file: hub_file(path, file, commit)


def _file_in(folder: Path, file: str) -> str:
    """The path of a file in a folder.

    Raises:
        FileNotFoundError: It is missing.
        InputError: It is a link out of the folder, unless into the hub's cache, to which the folder belongs.
    """
    path, home = folder / file, folder.resolve()
    if not path.is_file():
        raise FileNotFoundError(f'{path} not found: copy it there from the source of the other files')
    allowed = [home] if home.parent.name != 'snapshots' else [home, home.parents[1] / 'blobs']
    # A mounted volume has its files behind links within the folder.
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise InputError(f'{path} is a link that leads out of its folder: put the file itself there')
    return str(path)


def _check_fit(model: dict, weights: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` if weights do not fit a config."""
    init_default_scope('mmseg')
    # Not on the meta device: constructors of mmseg compute their dropout rates with tensors.
    misfit = state_dict_mismatch(MODELS.build(deepcopy(model)), weights)
    if misfit:
        raise CheckpointError(f'the weights do not fit the config: {misfit}')


def _summary(weights: Mapping[str, Tensor], file: Path) -> str:
    """Number, types and size of weights."""
    types = sorted({str(value.dtype).removeprefix('torch.') for value in weights.values()})
    number = sum(value.numel() for value in weights.values())
    return f'{number:,} ({", ".join(types)}), {file.stat().st_size / 2**20:.2f} MiB'


def _versions() -> dict[str, str]:
    found = dict(dit_sam=__version__)
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a fork of another name
            continue
    return found


def _refuse_class(value: Any) -> None:
    raise InputError(f'the config holds {str(value)[:60]!r} of class {type(value).__name__}, which is not data')
