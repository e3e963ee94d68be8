import sys
from functools import lru_cache
from pathlib import Path

import mmengine.config.utils
import pytest
import torch

import dit_sam  # noqa: F401

# tiny.py, and the blocks of the pages of docs/.
sys.path += [str(Path(__file__).parents[1] / 'test_models'), str(Path(__file__).parents[1])]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope='session', autouse=True)
def read_indexes_once() -> None:
    """For every `mmseg::` mmengine reads all of mmseg's index files, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmengine.config.utils, 'load', lru_cache(mmengine.config.utils.load))
        yield
