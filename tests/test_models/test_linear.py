"""The linear layers of the image encoder are PyTorch's, and those of SAM's MLP; none is computed twice."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.utils._python_dispatch import TorchDispatchMode

from dit_sam.compat import import_sam_modeling
from dit_sam.models.layers import InstructedBlock
from dit_sam.models.layers.block import MLP
from dit_sam.models.layers.linear import LARGE, Linear

GRID = (2, 32, 32, 128)


def convolutions(layer: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """The output of the layer, and the number of convolutions."""
    with mock.patch.object(F, 'conv2d', wraps=F.conv2d) as counted:
        return layer(x), counted.call_count


def like_torch(layer: Linear) -> nn.Linear:
    reference = nn.Linear(layer.in_features, layer.out_features, dtype=layer.weight.dtype)
    reference.load_state_dict(layer.state_dict())
    return reference


@pytest.mark.parametrize(
    'shape, expected',
    [(GRID, 1), ((1, 33, 31, 129), 1), ((0, 32, 32, 128), 1), ((64, 31, 32, 128), 0), ((2, 1024, 128), 0), ((128,), 0)],
)
@pytest.mark.parametrize('train', [True, False])
def test_large_grids_are_convolved_without_gradients(shape, expected, train):
    layer, x = Linear(shape[-1], 40), torch.randn(shape)
    with torch.set_grad_enabled(train):
        out, count = convolutions(layer, x)
        assert count == (0 if train else expected)
        torch.testing.assert_close(out, like_torch(layer)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype, expected', [(torch.float64, 0), (torch.bfloat16, 0), (torch.float32, 1)])
@pytest.mark.parametrize('autocast', [True, False])
def test_result_types_equal_torchs(dtype, expected, autocast):
    layer, x = Linear(128, 40).to(dtype), torch.randn(GRID, dtype=dtype)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        out, count = convolutions(layer, x)
        torch.testing.assert_close(out, like_torch(layer)(x))
    assert count == expected


@pytest.mark.skipif(not hasattr(torch.compiler, 'is_exporting'), reason='exporting needs torch 2.7')
def test_an_exported_graph_has_the_linear_layer():
    with torch.no_grad():
        graph = torch.export.export(Linear(128, 40).eval(), (torch.randn(GRID),)).graph
    names = [str(node.target) for node in graph.nodes]
    assert any('linear' in name for name in names) and not any('conv' in name for name in names)


def test_part_of_a_grid():
    layer, grid = Linear(128, 40), torch.randn(2, 40, 40, 128)
    with torch.no_grad():
        part, count = convolutions(layer, grid[:, :35, :33])
        torch.testing.assert_close(part, layer(grid)[:, :35, :33], rtol=1e-5, atol=1e-5)
    assert part.is_contiguous() and count == 1


@pytest.mark.parametrize('side', [9, 32])
@pytest.mark.parametrize('autocast', [True, False])
def test_a_batch_equals_its_images_alone(side, autocast):
    layer, x = Linear(128, 40), torch.randn(5, side, side, 128)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        assert torch.equal(layer(x), torch.cat([layer(image[None]) for image in x]))
    assert (side * side * 128 >= LARGE) == (side == 32)


def test_mlp_equals_sams():
    ours, theirs = MLP(128, 256), import_sam_modeling().common.MLPBlock(128, 256)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(GRID)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


PRODUCTS = ('mm', 'addmm', 'bmm', 'baddbmm')


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.__name__.split('.')[0] in PRODUCTS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('kernel', ['fused'], indirect=True)
@pytest.mark.parametrize('keep_text', [False, True], ids=['L-DIT', 'E-DIT'])
def test_a_compiled_block_computes_no_product_twice(keep_text, kernel):
    """Forward and backward, with inductor's choice of what the backward pass recomputes."""
    block = InstructedBlock(16, 2, 4)
    # Of another size than the tables of relative position, which are resized.
    x, text = torch.randn(1, 5, 6, 16, requires_grad=True), torch.randn(1, 3, 16, requires_grad=True)

    def step(block):
        sum(out.sum() for out in block(x, text, None, keep_text) if out is not None).backward()

    with Products() as eager:
        step(block)
    counts = []

    def count(graph, inputs):
        counts.append(sum(getattr(node.target, '__name__', '').split('.')[0] in PRODUCTS for node in graph.graph.nodes))
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=count, bw_compiler=count, partition_fn=min_cut_rematerialization_partition)
    torch._dynamo.reset()
    step(torch.compile(block, backend=backend, fullgraph=True))
    assert len(counts) == 2 and sum(counts) == eager.count
