"""The console script `dit-sam`."""

import sys

from . import demo, infer, list_models

COMMANDS = {'infer': infer.main, 'list-models': list_models.main, 'demo': demo.main}
USAGE = """usage: dit-sam COMMAND …

  dit-sam infer IMAGE… SENTENCE…   segment pictures by sentences; the options: dit-sam infer --help
  dit-sam list-models              the configs of this project, and which of them come with weights
  dit-sam demo                     make data, score, train and segment: `make demo`, in a checkout of the repository"""


def main() -> None:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print(USAGE)
    elif name not in COMMANDS:
        print(f'error: dit-sam has no command {name!r}; there are {", ".join(COMMANDS)}', file=sys.stderr)
        sys.exit(2)
    else:
        COMMANDS[name](sys.argv[2:], f'dit-sam {name}')
