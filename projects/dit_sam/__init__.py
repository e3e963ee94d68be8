"""DIT-SAM, deep instruction tuning for Segment Anything, as a plugin for OpenMMLab.

``import dit_sam`` registers every part in mmseg's registries. A config of any project does this with
``custom_imports = dict(imports=['dit_sam'])``.
"""

# ruff: noqa: E402
from . import compat

compat.install()

from . import apis, datasets, engine, evaluation, mmengine_extras, models, visualization
from .version import __version__

__all__ = ['__version__', 'apis', 'datasets', 'engine', 'evaluation', 'mmengine_extras', 'models', 'visualization']
