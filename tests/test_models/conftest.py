import sys
from pathlib import Path

import pytest
import torch

import dit_sam  # noqa: F401

# The reference implementation of these tests, textbook.py, is also that of the benchmark.
sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=['plain', 'fused'])
def kernel(request, monkeypatch) -> str:
    """Run the test twice, by plain matrix products as on a CPU and by the fused kernel as on a GPU."""
    attention, attend = (sys.modules[f'dit_sam.models.layers.{name}'] for name in ('attention', 'attend'))
    plain = request.param == 'plain'
    monkeypatch.setattr(attention, 'on_cpu', lambda _: plain)
    # In 16 bits, a CPU uses the other kernel up to this number of keys.
    monkeypatch.setattr(attention, 'SHORT', 0)
    monkeypatch.setattr(attend, 'SHORT', 10**9 if plain else 0)
    return request.param
