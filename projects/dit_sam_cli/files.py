"""Find the package's files without importing it, and refuse missing files."""

import os
import os.path as osp
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

# What to do about a config that does not exist.
CONFIGS_ARE = 'dit-sam list-models names those of this project'


def package_folder() -> Path:
    """The folder of `dit_sam`, which is not imported."""
    spec = find_spec('dit_sam')
    if spec is None or spec.origin is None:
        refuse('the package dit_sam is not installed: pip install it, or set PYTHONPATH to projects/ of a checkout')
    return Path(spec.origin).resolve().parent


def mim_folder() -> Path:
    """The folder with `configs/` and `tools/`: in a checkout the repository, else `.mim` of the package."""
    folder = package_folder() / '.mim'
    # Git on Windows writes links as text files by default.
    return (folder / 'model-index.yml').resolve().parent if (folder / 'configs').is_dir() else folder.parents[2]


def refuse(message: str) -> NoReturn:
    """End the program with status 1 and one line, as `one_line_errors` of dit_sam does."""
    print(f'error: {message}', file=sys.stderr)
    sys.exit(1)


def check_exists(kind: str, path: str, remedy: str = 'check the path') -> None:
    """Refuse a path that does not exist; addresses with `://` and configs of packages with `::` pass."""
    if '://' in path or '::' in path or osp.exists(path) or osp.exists(osp.expanduser(path)):
        return
    folder, name = osp.split(path)
    near = get_close_matches(name, os.listdir(folder or '.') if osp.isdir(folder or '.') else [], cutoff=0.8)
    refuse(f'{kind} {path} not found: ' + (f'did you mean {" or ".join(near)}?' if near else remedy))


def check_outputs(outputs: Mapping[str, str | None], inputs: Iterable[str | None]) -> None:
    """Refuse a file to write, by its option, that is also read, or that another option writes."""
    taken = [os.path.realpath(path) for path in inputs if path and osp.exists(path)]
    for option, path in outputs.items():
        if path is None:
            continue
        if os.path.realpath(path) in taken:
            refuse(f'{option} {path} is also read or written by another option: name another file')
        taken.append(os.path.realpath(path))
