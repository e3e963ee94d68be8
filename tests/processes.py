"""The tools, in this process or in processes of their own, without the seconds that the imports take.

Every process of its own is forked from a server that has imported everything and run nothing. It gets the command line
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
    """A process that has ended: exit status, negative where a signal ended it, and all that it printed."""

    returncode: int
    output: str


def call_tool(name: str, *arguments: object) -> int:
    """Run a program of tools/ in this process and give its exit status."""
    tool, code = str(ROOT / 'tools' / name), 0
    try:
        with mock.patch('sys.argv', [tool, *map(str, arguments)]):
            runpy.run_path(tool, run_name='__main__')
    except SystemExit as exit:
        code = exit.code or 0
    finally:
        # A program may silence the log for its own time.
        logging.disable(logging.NOTSET)
    if isinstance(code, str):
        print(code, file=sys.stderr)
        return 1
    return code


def run_tool(name: str, *arguments: object, timeout: float = 240, **environment: str) -> Done:
    """Run a program of tools/ in a process of its own, with further variables in its environment."""
    return run_ranks(1, name, *arguments, timeout=timeout, **environment)[0]


def run_ranks(ranks: int, name: str, *arguments: object, timeout: float = 240, **environment: str) -> list[Done]:
    """Run a program of tools/ as `ranks` processes that find each other; one of them alone is not told of others."""
    arguments = list(map(str, arguments))
    shared = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), WORLD_SIZE=str(ranks))
    if ranks > 1:
        arguments += ['--launcher', 'pytorch']
    with TemporaryDirectory() as folder:
        files = [Path(folder) / str(rank) for rank in range(ranks)]
        processes = [
            CONTEXT.Process(
                target=_run,
                args=(
                    ROOT / 'tools' / name,
                    arguments,
                    file,
                    environment | (dict(shared, RANK=str(rank), LOCAL_RANK=str(rank)) if ranks > 1 else {}),
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


def _run(tool: Path, arguments: list[str], output: Path, environment: dict[str, str]) -> None:
    import numpy as np
    import torch
    from mmengine.config import config

    torch.set_num_threads(1)
    # A shell has the tests ignore it where it starts them in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Half of a short training goes into the layout of the config that lies in its checkpoints.
    config.FormatCode = lambda text, **style: (text, False)
    # A fork goes on with the random numbers of the server; a program begins with others.
    np.random.seed()
    os.environ.update(environment, CUDA_VISIBLE_DEVICES='')
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv = [str(tool), *arguments]
    runpy.run_path(str(tool), run_name='__main__')


def free_port() -> int:
    """A port of this machine that nobody listens on."""
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
