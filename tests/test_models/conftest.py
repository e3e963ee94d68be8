import sys

import dit_sam  # noqa: F401
import pytest
import torch


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=['plain', 'fused'])
def kernel(request, monkeypatch) -> str:
    """Run the test twice, by plain matrix products and by the fused kernel, whatever the number of keys is."""
    module = sys.modules['dit_sam.models.layers.attend']
    monkeypatch.setattr(module, 'SHORT', 0 if request.param == 'fused' else 10**9)
    return request.param
