"""``dit-sam demo``: what ``make demo`` runs."""

import subprocess
import sys
from collections.abc import Sequence

from ..apis import InputError, config_folder
from ..mmengine_extras.diagnostics import one_line_errors


def main(arguments: Sequence[str], program: str) -> None:
    """Run tools/demo.py of the repository with these arguments; end with its status.

    Raises:
        SystemExit: Always. With 1 and one line where there is only the installed package.
    """
    tool = config_folder().parent / 'tools' / 'demo.py'
    with one_line_errors(InputError):
        if not tool.is_file():
            raise InputError(
                f'{program} writes data and trains in a checkout of the repository, and this is an '
                'installed package: clone the repository and call `make demo` there'
            )
    sys.exit(subprocess.run([sys.executable, str(tool), *arguments]).returncode)
