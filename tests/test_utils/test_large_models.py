"""Loading a checkpoint into a model piece by piece, without random weights before and in 16 bits."""

import pytest
import torch
from torch import nn

from dit_sam.utils import CheckpointError, large_models
from dit_sam.utils.large_models import load_in_pieces, without_initialization


def build() -> nn.Module:
    # The second matrix has 65,536 entries, the first one less.
    return nn.Sequential(nn.Linear(64, 256), nn.LayerNorm(256), nn.Linear(256, 256), nn.Embedding(300, 256))


@pytest.fixture
def checkpoint(tmp_path) -> str:
    torch.manual_seed(0)
    torch.save(dict(state_dict=build().state_dict(), meta=dict(epoch=3)), tmp_path / 'weights.pth')
    return str(tmp_path / 'weights.pth')


@pytest.mark.parametrize('piece', [1, 2**28])
def test_all_weights_are_loaded_in_any_pieces(checkpoint, monkeypatch, piece):
    monkeypatch.setattr(large_models, 'PIECE', piece)
    model = build()
    assert load_in_pieces(model, checkpoint) == dict(meta=dict(epoch=3))
    expected = torch.load(checkpoint, weights_only=True)['state_dict']
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_parameters_are_made_without_random_numbers():
    before = torch.get_rng_state()
    with without_initialization():
        model = build()
    assert torch.equal(torch.get_rng_state(), before)
    assert [parameter.shape for parameter in model.parameters()] == [p.shape for p in build().parameters()]
    # Only in the block, and only parameters.
    assert not torch.equal(torch.get_rng_state(), before)
    with without_initialization():
        assert torch.zeros(3).fill_(2).tolist() == [2, 2, 2]


def test_large_matrices_get_16_bits(checkpoint):
    model = build()
    load_in_pieces(model, checkpoint, torch.bfloat16)
    types = {name for name, value in model.state_dict().items() if value.dtype == torch.bfloat16}
    assert types == {'2.weight', '3.weight'}
    expected = torch.load(checkpoint, weights_only=True)['state_dict']
    assert torch.equal(model[2].weight, expected['2.weight'].bfloat16())


def test_what_does_not_fit_or_is_not_finite_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match='weights.pth does not fit the small model.*3 weights unknown'):
        load_in_pieces(build()[:2], checkpoint, target='the small model')
    content = torch.load(checkpoint, weights_only=True)
    content['state_dict']['2.bias'][0] = float('nan')
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match='weights.pth has NaN or infinity in 2.bias'):
        load_in_pieces(build(), checkpoint)
