"""DIT-SAM, deep instruction tuning for Segment Anything, as a plugin for OpenMMLab.

`import dit_sam` registers every part in mmseg's registries and the configs under `dit_sam::`, and changes nothing else,
with one exception: where only mmcv-lite is installed, a substitute for `mmcv._ext` is registered, without which mmseg
and mmdet cannot be imported. A config of any project imports it by `custom_imports = dict(imports=['dit_sam'])`. What
the tools of this project change in mmengine for their own process is in `mmengine_extras.prepare_process`.
"""

# ruff: noqa: E402
from . import compat

compat.install()

from . import apis, datasets, engine, evaluation, mmengine_extras, models, registry, visualization
from .version import __version__

__all__ = [
    '__version__',
    'apis',
    'datasets',
    'engine',
    'evaluation',
    'mmengine_extras',
    'models',
    'registry',
    'visualization',
]
