"""Models that other projects released, in the layout of their repositories: which there are, and how they open here."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from mmengine.config import Config

from ..engine.launch import load_config
from ..errors import InputError
from ..utils import shorten
from ..utils.checkpoints import CheckpointError
from .model_source import config_folder
from .shared_config import MOST_BYTES

# `model_type` in the config.json of EVF-SAM's repositories.
EVF_SAM = 'evf'
# The same file in the repositories of evf-sam and evf-sam2: its bytes, and the first and last digits of its SHA-256.
_PIECES = 'sentencepiece.bpe.model'
PIECES = (1_356_293, '6f5e2fef...1043f4')
_TOKENIZER_FILES = (_PIECES, 'tokenizer_config.json', 'special_tokens_map.json')
# Only the multitask repositories have it: the token [semantic].
_ADDED_TOKENS = 'added_tokens.json'
_WEIGHT_FILES = ('pytorch_model.bin', 'model.safetensors')
_SIZES = dict(sam_scale='huge', mm_extractor_scale='large')


@dataclass(frozen=True)
class Released:
    """A released model.

    Attributes:
        name: Its name for `from_pretrained`.
        repository: `user/name` on the hub.
        size: Bytes of its file of weights; None if they are not known.
        sha256: The first and last digits of the file's SHA-256, joined by three dots; None if they are not known.
    """

    name: str
    repository: str
    size: int | None
    sha256: str | None


@cache
def released_models() -> dict[str, Released]:
    """The models that the metafiles of this project's configs name, by their names."""
    found = {}
    for path in sorted(config_folder().glob('*/metafile.yml')):
        for model in yaml.safe_load(path.read_text(encoding='utf-8'))['Models']:
            about = model.get('Metadata', {})
            if 'Released As' in about:
                repository = model['Weights'].removeprefix('hf://').rpartition('/')[0]
                name = about['Released As']
                found[name] = Released(name, repository, about.get('Size'), about.get('SHA256'))
    return found


def open_evf_sam(name: str, settings: dict, file: Callable[[str], str]) -> tuple[Config, str]:
    """The config and the path of the weights of a repository of EVF-SAM; nothing in it is run.

    Args:
        name: The folder or repository, for errors.
        settings: The content of its config.json.
        file: Gives the path of a file of it.

    Raises:
        FileNotFoundError: A file is missing.
        InputError: It is a variant with another image encoder.
        CheckpointError: The weights are not the released ones, although it is the released repository.
    """
    other = [f'{key}={settings.get(key)!r}' for key, value in _SIZES.items() if settings.get(key) != value]
    if other:
        raise InputError(
            f"{name} has {shorten(other)}: only EVF-SAM with SAM 1's ViT-H and BEiT-3-large is supported: "
            f'{" and ".join(released_models())}'
        )
    folder = {str(Path(file(part)).parent) for part in _TOKENIZER_FILES}
    try:
        file(_ADDED_TOKENS)
        multitask = '_multitask'
    except (FileNotFoundError, CheckpointError) as error:
        # Without a network the cache cannot tell a file that is missing in the repository from one never fetched.
        if isinstance(error, CheckpointError) and 'multitask' in name:
            raise
        multitask = ''
    weights = _first_of(file, _WEIGHT_FILES)
    if not Path(name).is_dir():
        repository = name.partition('@')[0]
        known = next((each for each in released_models().values() if repository in (each.name, each.repository)), None)
        if known is not None and known.sha256 is not None:
            check_download(known.name, file(_PIECES), *PIECES)
            if Path(weights).name == _WEIGHT_FILES[0]:
                check_download(known.name, weights, known.size, known.sha256)
    config = load_config(str(config_folder() / 'evf_sam' / f'evf_vit-h_beit3-l{multitask}.py'))
    (config.model.text_encoder.tokenizer,) = folder
    return config, weights


def check_download(name: str, path: str, size: int | None, sha256: str) -> None:
    """Raise `CheckpointError` if a file of the released model `name` does not have this size or SHA-256."""
    found_size = os.path.getsize(path)
    again = f'remove {os.path.realpath(path)} to download it again'
    if size not in (None, found_size):
        raise CheckpointError(f'{path} has {found_size:,} bytes, the released {name} has {size:,}: {again}')
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**22):
            digest.update(block)
    first, last = sha256.split('...')
    found = digest.hexdigest()
    if not (found.startswith(first) and found.endswith(last)):
        raise CheckpointError(f'{path} has the SHA-256 {found}, the released {name} has {sha256}: {again}')


def read_settings(path: str) -> dict:
    """The content of a config.json; an empty dict if it is damaged or too large, which other code reports."""
    try:
        if os.path.getsize(path) > MOST_BYTES:
            return {}
        found = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _first_of(file: Callable[[str], str], names: tuple[str, ...]) -> str:
    """The path of the first of several files that is there; the error of the first one if there is none."""
    failures: list[Exception] = []
    for name in names:
        try:
            return file(name)
        # As above.
        except (FileNotFoundError, CheckpointError) as error:
            failures.append(error)
    raise failures[0]
