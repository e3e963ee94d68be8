from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for large files: unlike `tmp_path` it is gone after the test."""
    with TemporaryDirectory() as path:
        yield Path(path)
