"""Messages for weights that do not fit a module. SAM's own file is in test_models/test_sam_weights.py."""

import pytest
import torch
from torch import nn

from dit_sam.utils import state_dict_mismatch
from dit_sam.utils.state_dicts import not_finite


def test_fitting_weights_give_an_empty_message() -> None:
    module = nn.Linear(2, 3)
    assert state_dict_mismatch(module, dict(module.state_dict())) == ''


def test_all_misfits_are_listed() -> None:
    weights = dict(weight=torch.zeros(2, 2), scale=torch.zeros(1))
    assert state_dict_mismatch(nn.Linear(2, 3), weights) == (
        '1 weights missing: bias; 1 weights unknown: scale; '
        '1 weights of another shape (another arch?): weight is (2, 2), not (3, 2)'
    )


def test_values_that_cannot_be_weights_are_listed() -> None:
    weights = dict(weight=torch.full((3, 2), float('nan')), bias=torch.zeros(3, dtype=torch.int64))
    assert state_dict_mismatch(nn.Linear(2, 3), weights) == (
        '1 weights of another type: bias is torch.int64, not torch.float32; 1 weights with NaN or infinity: weight'
    )


FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2)


@pytest.mark.parametrize('dtype', FLOATS, ids=str)
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('count', [1, 3, 1001])
def test_one_value_that_is_not_finite_is_found_anywhere(dtype: torch.dtype, value: float, count: int) -> None:
    for place in {0, count // 2, count - 1}:
        weights = torch.randn(count).to(dtype)
        assert not not_finite(weights)
        weights[place] = value
        assert not_finite(weights) and not_finite(weights.expand(2, count).T)


def test_nothing_is_finite() -> None:
    for weights in (torch.zeros(0, 3), torch.zeros(3, dtype=torch.int64), torch.full((3,), torch.nan, device='meta')):
        assert not not_finite(weights)


def test_extra_weights_may_be_missing() -> None:
    assert state_dict_mismatch(nn.Linear(2, 3), dict(weight=torch.zeros(3, 2)), extra_prefixes=('bias',)) == ''


def test_extra_weights_are_accepted() -> None:
    weights = dict(weight=torch.zeros(3, 2), bias=torch.zeros(2))
    assert state_dict_mismatch(nn.Linear(2, 3), weights, extra_prefixes=('bias',)).endswith('bias is (2,), not (3,)')


def test_long_lists_are_shortened() -> None:
    weights = {f'b{i}': torch.zeros(1) for i in range(8)}
    assert state_dict_mismatch({}, weights) == '8 weights unknown: b0, b1, b2, b3, b4 and 3 more'
    assert state_dict_mismatch({}, dict(list(weights.items())[:5])) == '5 weights unknown: b0, b1, b2, b3, b4'
