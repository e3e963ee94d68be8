"""``dit-sam demo``: run tools/demo.py."""

import subprocess
import sys
from collections.abc import Sequence

from .files import mim_folder, refuse


def main(arguments: Sequence[str], program: str) -> None:
    """Run tools/demo.py of the repository and exit with its status; with 1 if only the package is installed."""
    tool = mim_folder() / 'tools' / 'demo.py'
    if not tool.is_file():
        refuse(
            f'{program} writes data and trains in a checkout of the repository, and this is an '
            'installed package: clone the repository and call `make demo` there'
        )
    sys.exit(subprocess.run([sys.executable, str(tool), *arguments]).returncode)
