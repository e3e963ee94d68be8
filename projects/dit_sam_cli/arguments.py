"""Options that several tools have, and what programs set before they import torch."""

import argparse
import os

# SAM's own sizes, as in `dit_sam.models.weights.conversion`.
SAM_ARCHS = ('base', 'large', 'huge')
# Help of --model, and the values of --dtype, of the programs that open a model for inference.
MODEL = 'a name of `dit-sam list-models`, a folder, or a repository of a hub, user/name or user/name@revision'
DTYPES = ('float32', 'bfloat16', 'float16')


def let_threads_yield() -> None:
    """Let OpenMP's waiting threads soon yield to other processes (docs/training.md, "Threads").

    It has an effect before torch is imported.
    """
    if 'OMP_WAIT_POLICY' not in os.environ:
        os.environ.setdefault('GOMP_SPINCOUNT', '1000')


def add_config_options(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add `--cfg-options`, a list of texts that `load_config` of dit_sam reads; `more` is appended to the help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=_setting,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as key=value with dots in the key; a list is written '
        f'key="[a,b]" or key=a,b, without spaces{more}',
    )


def _setting(text: str) -> str:
    if '=' not in text:
        raise argparse.ArgumentTypeError(f'{text} cannot be read: it needs key=value')
    return text


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add `--launcher`, and the rank that a launcher passes as an argument."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch.distributed.launch passes the second spelling since torch 2.0, the first in older versions.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def note_local_rank(args: argparse.Namespace) -> None:
    """Set `LOCAL_RANK`, by which mmengine chooses the GPU of a wrapped model; it does not do so for mpirun."""
    given = os.environ.get('OMPI_COMM_WORLD_LOCAL_RANK') if args.launcher == 'mpi' else None
    os.environ.setdefault('LOCAL_RANK', given or str(args.local_rank))


def positive(text: str) -> int:
    """A whole number of 1 or more, as a `type` of argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text} is not positive')
    return number
