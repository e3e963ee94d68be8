"""Run the tools, in this process or in separate ones, without the seconds that the imports take.

Every separate process is forked from a server that has imported everything and run nothing. It gets the command line
that a user types, and can be killed.
"""

import logging
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

ROOT = Path(__file__).parents[1]
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    [
        'dit_sam',
        'mmengine.runner',
        'mmseg.datasets',
        'mmseg.engine',
        'mmseg.evaluation',
        'mmseg.models',
        'mmseg.visualization',
        'torch.distributed',
        'transformers.models.bert.modeling_bert',
    ]
)


@dataclass
class Done:
    """A finished process: exit status, negative if a signal ended it, and its whole output."""

    returncode: int
    output: str


def call_tool(name: str, *arguments: object) -> int:
    """Run a program of tools/ in this process and return its exit status."""
    tool, code = str(ROOT / 'tools' / name), 0
    try:
        with mock.patch('sys.argv', [tool, *map(str, arguments)]):
            runpy.run_path(tool, run_name='__main__')
    except SystemExit as exit:
        code = exit.code or 0
    finally:
        # A program may silence the log while it runs.
        logging.disable(logging.NOTSET)
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code


def run_tool(name: str, *arguments: object, timeout: float = 240, **environment: str) -> Done:
    """Run a program of tools/ in its own process, with additional environment variables."""
    return run_ranks(1, name, *arguments, timeout=timeout, **environment)[0]


def run_ranks(
    ranks: int, name: str, *arguments: object, launcher: str = 'pytorch', timeout: float = 240, **environment: str
) -> list[Done]:
    """Run a program of tools/ as `ranks` processes of one process group; a single one runs without a launcher.

    Several have a current folder each, as machines do not share theirs, and the variables of torchrun or Slurm.
    """
    arguments, port = list(map(str, arguments)), str(free_port())
    if ranks > 1:
        arguments += ['--launcher', launcher]
    with TemporaryDirectory() as folder:
        files = [Path(folder) / str(rank) for rank in range(ranks)]
        processes = [
            CONTEXT.Process(
                target=_run,
                args=(
                    ROOT / 'tools' / name,
                    arguments,
                    file,
                    environment | (_variables(launcher, rank, ranks, port) if ranks > 1 else {}),
                ),
            )
            for rank, file in enumerate(files)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout)
            process.kill()
            process.join()
        return [Done(process.exitcode, file.read_text()) for process, file in zip(processes, files)]


def _variables(launcher: str, rank: int, ranks: int, port: str) -> dict[str, str]:
    """What a launcher sets for a process."""
    if launcher == 'slurm':
        return dict(slurm_task(rank, ranks), MASTER_PORT=port)
    shared = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=str(ranks))
    return dict(shared, RANK=str(rank), LOCAL_RANK=str(rank))


def slurm_task(rank: int, ranks: int) -> dict[str, str]:
    """What srun sets for a task."""
    numbers = dict(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank), SLURM_NTASKS=str(ranks))
    return dict(numbers, SLURM_NODELIST='node[1-2]')


def _run(tool: Path, arguments: list[str], output: Path, environment: dict[str, str]) -> None:
    import numpy as np
    import torch
    from mmengine.config import config

    torch.set_num_threads(1)
    # A shell that starts the tests in the background makes them ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Half of the time of a short training is spent on formatting the config for its checkpoints.
    config.FormatCode = lambda text, **style: (text, False)
    # A fork would continue the random numbers of the server; a program starts with its own.
    np.random.seed()
    os.environ.update(environment, CUDA_VISIBLE_DEVICES='')
    if 'MASTER_PORT' in environment:
        folder = output.with_suffix('.cwd')
        folder.mkdir()
        os.chdir(folder)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv = [str(tool), *arguments]
    runpy.run_path(str(tool), run_name='__main__')


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as connection:
        connection.bind(('127.0.0.1', 0))
        return connection.getsockname()[1]


def dist_environment(**changes: str) -> dict[str, str]:
    """The environment for the launch scripts: this Python, one thread, no GPU, a free port."""
    return {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT / 'tests'),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PORT': str(free_port()),
        **changes,
    }
