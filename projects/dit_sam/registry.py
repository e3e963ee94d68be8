"""The scope `dit_sam` of mmengine, by which configs name this package: `_base_ = 'dit_sam::dit_sam/ldit_vit-b.py'`.

Every part of this project is in mmseg's registries. Those of the scope are empty children of them, which find what the
parents have.
"""

from pathlib import Path

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry
from mmseg import registry as parents

SCOPE = 'dit_sam'
REGISTRIES = {
    name: Registry(parent.name, parent=parent, scope=SCOPE, locations=[SCOPE])
    for name, parent in vars(parents).items()
    if isinstance(parent, Registry)
}
# mmengine looks up the folder of this distribution or, if there is none of that name, of this module. The module,
# because the distribution's folder is wrong in an editable installation.
MODULE2PACKAGE.setdefault(SCOPE, 'dit_sam.version')


def config_folder() -> Path:
    """The folder that holds the configs, `dit_sam/` and `_base_/`: `.mim/configs` of the package.

    In a checkout this is a link to the repository's `configs/`, which is then returned.
    """
    folder = Path(__file__).resolve().parent / '.mim' / 'configs'
    # Git on Windows writes links as text files by default.
    return folder.resolve() if folder.is_dir() else folder.parents[3] / 'configs'
