"""The small config trains as recorded, on one rank and on two."""

import json

import pytest
from golden_loss import GOLDEN, arguments, losses, train
from processes import run_ranks


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('golden')


@pytest.fixture(scope='module')
def one_rank(folder) -> list[float]:
    return train(folder)


def test_the_losses_equal_the_golden_curve(one_rank):
    """1e-4 is above the rounding differences of other processors, and below the effect of a change of the method."""
    assert one_rank == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)
    assert one_rank[-1] < one_rank[0] / 2


def test_two_ranks_with_half_the_batch_have_the_same_losses(folder, one_rank):
    for done in run_ranks(2, 'train.py', *arguments(folder, folder / 'two', ranks=2)):
        assert done.returncode == 0, done.output[-3000:]
    assert losses(folder / 'two') == pytest.approx(one_rank, rel=1e-5)
