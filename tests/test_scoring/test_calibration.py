"""Predicted and true IoUs compared."""

import numpy as np
import pytest

from dit_sam.errors import InputError
from dit_sam.scoring import calibrate


def test_predicted_ious_are_compared_with_the_true_ones() -> None:
    """|0.05 - 0.25|, |0.85 - 0.75|, |0.81 - 0.91| and |1 - 0.6| have the mean 0.8 / 4; the ranks 1 3 2 4 and 1 3 4 2.

    The rank correlation is 1 - 6 x (0 + 0 + 4 + 4) / (4 x 15) = 0.2.
    """
    scores, ious = np.array([(0.05, 0.25), (0.85, 0.75), (0.81, 0.91), (1.0, 0.6)]).T
    found = calibrate(scores, ious)
    assert found.sentences == 4
    values = (found.mean_score, found.mean_iou, found.mean_difference, found.rank_correlation)
    assert values == pytest.approx((0.6775, 0.6275, 0.2, 0.2))
    assert [i for i, tenth in enumerate(found.tenths) if tenth] == [0, 8, 9]
    assert np.allclose([found.tenths[i] for i in (0, 8, 9)], [(1, 0.05, 0.25), (2, 0.83, 0.83), (1, 1.0, 0.6)])


def test_what_cannot_be_computed_is_none() -> None:
    none = calibrate(np.zeros(0), np.zeros(0))
    assert (none.sentences, none.mean_score, none.mean_iou, none.mean_difference) == (0, None, None, None)
    assert none.rank_correlation is None and none.tenths == (None,) * 10
    # Equal true IoUs have no order; scores outside of 0 to 1 count to the first and the last tenth.
    constant = calibrate(np.array([-0.5, 1.5]), np.zeros(2))
    assert (
        constant.rank_correlation is None and constant.tenths[0] == (1, -0.5, 0) and constant.tenths[9] == (1, 1.5, 0)
    )
    with pytest.raises(InputError, match='must be finite: leave out sentences without a score'):
        calibrate(np.array([np.nan, 0.5]), np.zeros(2))
