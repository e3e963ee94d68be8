"""The linear layers of the image encoder are PyTorch's, and those of SAM's MLP."""
import pytest
import torch
from torch import nn

from dit_sam.compat import import_sam_modeling
from dit_sam.models.layers.linear import Linear
from dit_sam.models.layers.mlp import MLP


@pytest.mark.parametrize('shape', [(2, 7, 5, 48), (1, 1, 1, 48), (0, 4, 4, 48), (3, 20, 48), (48, )])
@pytest.mark.parametrize('train', [True, False])
def test_same_as_torch(shape, train):
    layer, reference = Linear(48, 40), nn.Linear(48, 40)
    reference.load_state_dict(layer.state_dict())
    with torch.set_grad_enabled(train):
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), reference(x), rtol=1e-5, atol=1e-5)


def test_of_a_part_of_a_grid():
    layer, grid = Linear(48, 40), torch.randn(2, 9, 9, 48)
    with torch.no_grad():
        part = layer(grid[:, :7, :5])
        torch.testing.assert_close(part, layer(grid)[:, :7, :5], rtol=1e-5, atol=1e-5)
        assert part.is_contiguous()


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('autocast', [True, False])
def test_types_as_in_torch(dtype, autocast):
    layer, reference = Linear(48, 40).to(dtype), nn.Linear(48, 40).to(dtype)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 7, 5, 48, dtype=dtype)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        torch.testing.assert_close(layer(x), reference(x))


def test_a_batch_is_its_images():
    layer, x = Linear(48, 40), torch.randn(5, 9, 9, 48)
    with torch.no_grad():
        assert torch.equal(layer(x), torch.cat([layer(image[None]) for image in x]))


def test_mlp_is_that_of_sam():
    ours, theirs = MLP(48, 96), import_sam_modeling().common.MLPBlock(48, 96)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, 5, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
