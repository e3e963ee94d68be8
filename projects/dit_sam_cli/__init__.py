"""The console script `dit-sam`, and what the tools' command lines share.

Nothing here imports torch, OpenMMLab or `dit_sam`, which take seconds, before a command needs them. So help, the list
of models and most refusals come at once.
"""

import os
import sys
from importlib import import_module

USAGE = """usage: dit-sam COMMAND …

  dit-sam infer IMAGE… SENTENCE…   segment images by sentences
  dit-sam audit                    say which evaluation pictures a model was trained on
  dit-sam list-models              list the models with weights, and the configs of this project
  dit-sam collect-env              print machine and versions, for bug reports
  dit-sam train CONFIG             train a model; CONFIG is a file, or dit_sam::NAME.py for one of the list
  dit-sam test CONFIG CHECKPOINT   score a checkpoint
  dit-sam score PREDICTIONS        score the masks of any model by the protocols of the literature
  dit-sam webdemo                  segment images in a web page
  dit-sam demo                     make data, score, train and segment, in the current folder

Each has a --help."""
# Command: its module in this package.
COMMANDS = {
    'infer': 'infer',
    'score': 'score',
    'audit': 'audit',
    'list-models': 'list_models',
    'collect-env': 'collect_env',
    'train': 'tools',
    'test': 'tools',
    'webdemo': 'tools',
    'demo': 'tools',
}


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
            import_module(f'{__name__}.{COMMANDS[name]}').main(sys.argv[2:], f'dit-sam {name}')
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has closed the pipe, as in `dit-sam list-models | head`.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
