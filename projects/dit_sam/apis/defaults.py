"""The model that is used when none is named: the small one of the embedded data, shipped with the repository."""
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

DEFAULT_CONFIG = str(_PACKAGE.parents[1] / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')
DEFAULT_CHECKPOINT = str(_PACKAGE / 'assets' / 'ldit_vit-t_shapes.safetensors')
