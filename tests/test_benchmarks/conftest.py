import sys

import pytest
from processes import ROOT

# The benchmarks import each other by name.
sys.path.append(str(ROOT / 'benchmarks'))


@pytest.fixture(autouse=True)
def small_products(monkeypatch) -> None:
    """Small matrices for the machine's peak, because times are not checked."""
    import measures

    monkeypatch.setitem(measures.GEMM_SIDE, 'cpu', 256)
