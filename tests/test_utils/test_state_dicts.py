"""Messages for weights that do not fit a module. SAM's own file is in test_models/test_sam_weights.py."""

import torch
from torch import nn

from dit_sam.utils import state_dict_mismatch


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


def test_extra_weights_may_be_missing() -> None:
    assert state_dict_mismatch(nn.Linear(2, 3), dict(weight=torch.zeros(3, 2)), extra_prefixes=('bias',)) == ''


def test_extra_weights_are_accepted() -> None:
    weights = dict(weight=torch.zeros(3, 2), bias=torch.zeros(2))
    assert state_dict_mismatch(nn.Linear(2, 3), weights, extra_prefixes=('bias',)).endswith('bias is (2,), not (3,)')


def test_long_lists_are_shortened() -> None:
    weights = {f'b{i}': torch.zeros(1) for i in range(8)}
    assert state_dict_mismatch({}, weights) == '8 weights unknown: b0, b1, b2, b3, b4 and 3 more'
    assert state_dict_mismatch({}, dict(list(weights.items())[:5])) == '5 weights unknown: b0, b1, b2, b3, b4'
