"""The small config trains as recorded, on one rank and on two."""

import json

import pytest
from golden_loss import GOLDEN, arguments, losses, train, write_data
from processes import run_ranks


def test_the_losses_equal_the_golden_curve(tmp_path):
    """1e-4 is above the rounding differences of other processors, and below the effect of a change of the method."""
    one_rank = train(tmp_path)
    assert one_rank == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)
    assert one_rank[-1] < one_rank[0] / 2


def test_two_ranks_with_half_the_batch_have_the_same_losses(tmp_path):
    """Of six steps with small pictures, the last three after the warm-up."""
    small = {'model.data_preprocessor.size': '(64,64)', 'train_dataloader.dataset.pipeline.2.scale': '(64,64)'}
    small |= {'val_dataloader.dataset.pipeline.1.scale': '(64,64)', 'param_scheduler.0.end': 3}
    write_data(tmp_path)
    for ranks in (1, 2):
        for done in run_ranks(ranks, 'train.py', *arguments(tmp_path, tmp_path / str(ranks), ranks, steps=6, **small)):
            assert done.returncode == 0, done.output[-3000:]
    one, two = (losses(tmp_path / str(ranks)) for ranks in (1, 2))
    assert len(one) == 6 and two == pytest.approx(one, rel=1e-5)
