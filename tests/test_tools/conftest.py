import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from processes import ROOT

# The analysis tools import each other by name.
sys.path.append(str(ROOT / 'tools' / 'analysis_tools'))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for large files: unlike `tmp_path` it is gone after the test."""
    with TemporaryDirectory() as path:
        yield Path(path)
