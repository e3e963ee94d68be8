import pytest
from processes import ROOT


@pytest.fixture(autouse=True)
def beside_the_benchmarks(monkeypatch) -> None:
    """The benchmarks import each other by name."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
