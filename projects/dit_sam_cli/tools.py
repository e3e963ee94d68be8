"""``dit-sam train``, ``test``, ``webdemo`` and ``demo``: the programs of tools/, which come with the package."""

import os
import subprocess
import sys
from collections.abc import Sequence

from .files import mim_folder


def main(arguments: Sequence[str], program: str) -> None:
    """Replace this process by the program of that name, so that signals and its status need no passing on."""
    tool = mim_folder() / 'tools' / f'{program.split()[-1]}.py'
    sys.stdout.flush()
    command = [sys.executable, str(tool), *arguments]
    if os.name == 'nt':
        # There the terminal would not wait for the new process.
        sys.exit(subprocess.run(command).returncode)
    os.execv(sys.executable, command)
