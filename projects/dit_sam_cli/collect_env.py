"""`dit-sam collect-env`: print the machine and the versions that a bug report needs."""

import argparse
from collections.abc import Iterator, Sequence
from importlib import metadata

# Import names, because forks of OpenMMLab and builds of mmcv and OpenCV have other distribution names.
MODULES = (
    *('dit_sam', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'torch', 'transformers', 'tokenizers', 'safetensors'),
    *('segment_anything', 'pycocotools', 'numpy', 'cv2', 'PIL', 'huggingface_hub', 'sentencepiece'),
)


def main(arguments: Sequence[str], program: str) -> None:
    """Print what mmengine collects, then the versions of the packages."""
    argparse.ArgumentParser(prog=program, description=__doc__.split(': ', 1)[1]).parse_args(arguments)
    from mmengine.utils.dl_utils import collect_env

    for name, value in collect_env().items():
        # A random number of no use here.
        if name != 'numpy_random_seed':
            print(f'{name}: {value}'.rstrip())
    print(*versions(), sep='\n')


def versions() -> Iterator[str]:
    """`module: distribution version` for each package, or `module: not installed`."""
    owners = metadata.packages_distributions()
    for module in MODULES:
        found = [f'{name} {metadata.version(name)}' for name in dict.fromkeys(owners.get(module, ()))]
        yield f'{module}: {", ".join(found) or "not installed"}'
