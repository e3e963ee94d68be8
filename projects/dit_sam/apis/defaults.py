"""The model that is used when none is named: the small one of the embedded data, shipped with the repository."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
ASSETS = _PACKAGE / 'assets'


def config_folder() -> Path:
    """The folder that holds `dit_sam/` and `_base_/`: of the repository, or where an installed package has put it."""
    of_repository = _PACKAGE.parents[1] / 'configs'
    if (of_repository / 'dit_sam' / 'metafile.yml').is_file():
        return of_repository
    try:
        listed = files('dit-sam') or ()
    except PackageNotFoundError:
        listed = ()
    found = (Path(file.locate()).resolve() for file in listed if file.match('configs/dit_sam/metafile.yml'))
    return next((path.parents[1] for path in found), of_repository)


DEFAULT_CONFIG = str(config_folder() / 'dit_sam' / 'ldit_vit-t_shapes.py')
DEFAULT_CHECKPOINT = str(ASSETS / 'ldit_vit-t_shapes.safetensors')
