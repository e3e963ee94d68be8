"""A folder in which tools of this repository run, with their output in logs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dit_sam.utils import lock_folder, wrap_write_errors

ROOT = Path(__file__).resolve().parents[1]


def cores_of(jobs: int) -> int:
    """The share of the cores of one of several processes."""
    return max(1, (os.cpu_count() or 1) // jobs)


def loader_settings(dataloader: str, jobs: int) -> list[str]:
    """A process with one core loads its data itself: its workers would share the core, and copy every item."""
    return [f'{dataloader}.num_workers=0'] * (cores_of(jobs) == 1)


class Workspace:
    """A folder for the tools that one process starts.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: set[subprocess.Popen] = set()
        # Open files that the tools keep open too, see `alone`.
        self.locks: tuple[int, ...] = ()

    def call(self, log: str, *command: object, jobs: int = 1) -> None:
        """Run a tool of this repository, with its share of the cores among `jobs`; its output goes to `log`.

        Raises:
            RuntimeError: It failed.
        """
        environment = dict(OMP_NUM_THREADS=str(cores_of(jobs))) | dict(os.environ)
        line = [sys.executable, *map(str, command)]
        with wrap_write_errors(self.folder / log), open(self.folder / log, 'a') as file:
            process = subprocess.Popen(
                line, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, pass_fds=self.locks
            )
            self.running.add(process)
            try:
                process.wait()
            except KeyboardInterrupt:  # which the tool gets too, and then saves
                process.wait()
                raise
            finally:
                self.running.discard(process)
        if process.returncode:
            raise RuntimeError(f'{command[0]} ended with status {process.returncode}: see {self.folder / log}')

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the folder, and pass SIGTERM on to the tools.

        As after Ctrl-C, which the tools get too, trainings then save, and the process ends. A tool that it leaves
        behind, when it is killed, keeps others out until it ends.

        Raises:
            InputError: Another process, or its tool, is in the folder.
        """

        def stop(*_: object) -> None:
            for process in tuple(self.running):
                process.terminate()
            raise KeyboardInterrupt

        user = 'another comparison, or by a training that one has left behind'
        with lock_folder(self.folder, user) as lock:
            self.locks = () if lock is None else (lock,)
            before = signal.signal(signal.SIGTERM, stop)
            try:
                yield
            finally:
                signal.signal(signal.SIGTERM, before)
