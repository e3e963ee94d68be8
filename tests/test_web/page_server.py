"""Start the web page as a user does."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import ROOT

TOOL = ROOT / 'tools' / 'webdemo.py'
SECONDS = 90


@contextmanager
def served(folder: Path, *arguments: object, ending: int = signal.SIGTERM) -> Iterator[str]:
    """The address of the page, served by the tool as a user starts it."""
    environment = {**os.environ, 'TMPDIR': str(folder), 'CUDA_VISIBLE_DEVICES': '', 'PYTHONUNBUFFERED': '1'}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    with open(folder / 'log', 'w+') as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            yield wait_for_address(server, folder / 'log')
        finally:
            server.send_signal(ending)
            server.wait(30)


def wait_for_address(server: subprocess.Popen, log: Path) -> str:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        found = re.search(r'http://\S+', log.read_text())
        if found:
            return found.group()
        time.sleep(0.5)
    raise AssertionError(f'the page did not start: {log.read_text()}')
