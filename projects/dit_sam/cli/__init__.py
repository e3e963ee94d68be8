"""The console script `dit-sam`."""

import os
import subprocess
import sys
from collections.abc import Sequence

from ..apis import InputError, config_folder
from ..mmengine_extras.diagnostics import one_line_errors
from . import collect_env, infer, list_models

USAGE = """usage: dit-sam COMMAND …

  dit-sam infer IMAGE… SENTENCE…   segment images by sentences; for the options: dit-sam infer --help
  dit-sam list-models              list the configs of this project, and which of them come with weights
  dit-sam collect-env              print machine and versions, for a bug report
  dit-sam demo                     make data, score, train and segment: `make demo`, in a checkout of the repository"""


def demo(arguments: Sequence[str], program: str) -> None:
    """Run tools/demo.py of the repository and exit with its status; with 1 if only the package is installed."""
    tool = config_folder().parent / 'tools' / 'demo.py'
    with one_line_errors():
        if not tool.is_file():
            raise InputError(
                f'{program} writes data and trains in a checkout of the repository, and this is an '
                'installed package: clone the repository and call `make demo` there'
            )
    sys.exit(subprocess.run([sys.executable, str(tool), *arguments]).returncode)


COMMANDS = {'infer': infer.main, 'list-models': list_models.main, 'collect-env': collect_env.main, 'demo': demo}


def main() -> None:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print(USAGE)
    elif name not in COMMANDS:
        print(f'error: dit-sam has no command {name!r}; there are {", ".join(COMMANDS)}', file=sys.stderr)
        sys.exit(2)
    else:
        try:
            COMMANDS[name](sys.argv[2:], f'dit-sam {name}')
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has closed the pipe, as in `dit-sam list-models | head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
