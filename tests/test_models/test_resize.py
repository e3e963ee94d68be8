"""Position maps, tables and logits of another size: PyTorch's numbers, gradients by products, and caching."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from mmseg.registry import MODELS
from tiny import ARCH, assert_close, noise, randomize

from dit_sam.models.layers import relative_position_table, resize
from dit_sam.models.layers.relative_position import _table

SIZES = [((64, 64), (32, 32)), ((64, 64), (33, 20)), ((4, 5), (9, 7)), ((16, 16), (64, 64)), ((5, 7), (1, 3))]


def both(function, reference, x, seed=1) -> None:
    """Values and gradients of one function are those of the other."""
    results = []
    for f in (function, reference):
        leaf = x.clone().requires_grad_()
        out = f(leaf)
        results.append((out.detach(), *torch.autograd.grad(out, leaf, noise(*out.shape, seed=seed).to(out))))
    assert torch.equal(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1], 1e-6)


@pytest.mark.parametrize('mode, align_corners', [('bicubic', False), ('bilinear', False), ('bilinear', True)])
@pytest.mark.parametrize('old, new', SIZES)
def test_maps_are_resized_as_by_pytorch(old, new, mode, align_corners):
    both(
        lambda x: resize(x, new, mode, align_corners),
        lambda x: F.interpolate(x, new, mode=mode, align_corners=align_corners),
        noise(2, 3, *old),
    )


@pytest.mark.parametrize('length, size', [(127, 32), (127, 64), (27, 14), (5, 9), (13, 1)])
def test_tables_are_resized_as_by_pytorch(length, size):
    both(lambda x: relative_position_table(x, size), lambda x: _table(x, size), noise(length, 6))


def test_autocast_around_the_backward_pass_does_not_round():
    x = noise(1, 2, 8, 8).requires_grad_()
    out, weights = resize(x, (32, 32), 'bilinear', True), noise(1, 2, 32, 32)
    (expected,) = torch.autograd.grad(out, x, weights, retain_graph=True)
    with torch.autocast('cpu', torch.bfloat16):
        (actual,) = torch.autograd.grad(out, x, weights)
    assert torch.equal(actual, expected)


def test_matrices_made_in_inference_mode_can_be_trained_with():
    with torch.inference_mode():
        resize(noise(1, 1, 11, 11), (23, 23), 'bilinear', True)
    x = noise(1, 1, 11, 11).requires_grad_()
    resize(x, (23, 23), 'bilinear', True).square().sum().backward()
    assert x.grad.isfinite().all()


def encoder(seed=0):
    made = MODELS.build(dict(type='SAMViT', arch=ARCH, img_size=64, patch_size=8, out_channels=16, window_size=3))
    return randomize(made, seed).eval()


IMAGES = noise(1, 3, 40, 56)


def resized(net) -> int:
    """How often a forward pass without gradients resizes or expands a position table or map."""
    counted = []
    for kept in (net._position, *(kept for block in net.blocks for kept in block.attn._tables)):
        kept.make = lambda *args, make=kept.make: counted.append(1) or make(*args)
    with torch.no_grad():
        net(IMAGES)
    return len(counted)


def test_in_evaluation_tables_are_resized_once():
    net = encoder()
    assert resized(net) == 7  # one map, two tables in each of three blocks
    assert resized(net) == 0


def swap_unseen(net) -> None:
    """Swap weights as for averaged ones, which no version counter shows; the mode is set next."""
    for parameter, other in zip(net.parameters(), encoder(1).parameters()):
        parameter.data.copy_(other)
    net.eval()


def step(**options):
    """A step of an optimizer while the encoder stays in evaluation mode."""

    def run(net) -> None:
        with torch.enable_grad():
            net(IMAGES)[0].square().sum().backward()
        torch.optim.Adam(net.parameters(), lr=0.1, **options).step()

    return run


def average(net) -> None:
    """mmengine's averaged model, a separate model whose mode is not set again."""
    averaged = ExponentialMovingAverage(net, momentum=0.5)
    averaged.update_parameters(net)
    averaged.module = net
    averaged.update_parameters(encoder(1))


def write_twice(net) -> None:
    """The second tensors may have the same addresses as the first."""
    for _ in range(2):
        for parameter in net.parameters():
            parameter.data = parameter.data * 2


@pytest.mark.parametrize(
    'change',
    [
        lambda net: net.load_state_dict(encoder(1).state_dict()),
        lambda net: [
            setattr(parameter, 'data', other.data)
            for parameter, other in zip(net.parameters(), encoder(1).parameters())
        ],
        lambda net: [
            torch.nn.utils.vector_to_parameters(
                torch.nn.utils.parameters_to_vector(encoder(1).parameters()), net.parameters()
            )
        ],
        lambda net: net.to(torch.float64),
        lambda net: net.to(torch.float16).to(torch.float32),
        swap_unseen,
        step(foreach=True),
        step(fused=True),
        average,
        write_twice,
        lambda net: [parameter.data.mul_(2) for parameter in net.parameters()],
        lambda net: [
            np.multiply(parameter.numpy(force=True), 2, out=parameter.numpy(force=True))
            for parameter in net.parameters()
        ],
    ],
    ids=[
        'loaded',
        'replaced',
        'by vector',
        'double',
        'there and back',
        'exchanged',
        'step',
        'fused step',
        'averaged',
        'written twice',
        'through data',
        'by numpy',
    ],
)
def test_changed_weights_are_detected(change):
    net = encoder()
    with torch.no_grad():
        net(IMAGES)
        change(net)
        fresh = encoder().to(net.pos_embed.dtype)
        fresh.load_state_dict(net.state_dict())
        images = IMAGES.to(net.pos_embed.dtype)
        assert torch.equal(net(images)[0], fresh(images)[0])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_an_encoder_of_another_type_takes_any_size(dtype):
    net = encoder().to(dtype)
    with torch.no_grad():
        kept = net(IMAGES.to(dtype))[0]
    assert kept.dtype == dtype and torch.equal(net(IMAGES.to(dtype))[0], kept)


@pytest.mark.filterwarnings('ignore:There is a performance drop')
def test_many_encoders_at_once():
    """`torch.func` runs the encoder over a batch of weights."""
    nets = [encoder(0), encoder(1)]
    weights, _ = torch.func.stack_module_state(nets)
    with torch.no_grad():
        both = torch.func.vmap(lambda each: torch.func.functional_call(nets[0], each, IMAGES)[0])(weights)
        for one, net in zip(both, nets):
            assert_close(one, net(IMAGES)[0], 1e-5)


def test_another_size_is_detected():
    net = encoder()
    with torch.no_grad():
        for size in ((40, 56), (56, 40), (40, 56)):
            image = noise(1, 3, *size)
            assert torch.equal(net(image)[0], copy.deepcopy(net)(image)[0])


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_do_not_share_the_cache(copied):
    net = encoder()
    with torch.no_grad():
        expected = net(IMAGES)[0]
        twin = copied(net)
        assert all(kept._kept is None for kept in (twin._position, *twin.blocks[0].attn._tables))
        for parameter in net.parameters():
            parameter.zero_()
        assert torch.equal(twin(IMAGES)[0], expected)


def test_training_after_evaluation_works():
    """Results cached without gradients are not used in training."""
    net = encoder()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            net(IMAGES)
        net.zero_grad()
        net(IMAGES)[0].square().sum().backward()
        assert net.pos_embed.grad.abs().sum() > 0 and net.blocks[0].attn.rel_pos_h.grad.abs().sum() > 0


def test_masks_of_any_size_do_not_fill_the_memory(monkeypatch):
    """Kept are at most 4 KiB here; a matrix from 16 to 100 has 6.4 KB, one from 8 to 20 640 bytes."""
    module = sys.modules['dit_sam.models.layers.resize']
    monkeypatch.setattr(module, '_MATRICES', {})
    monkeypatch.setattr(module, '_MOST_BYTES', 4096)
    for side, kept in [(20, 640), (21, 640 + 672), (80, 640 + 672 + 2560), (81, 2592)]:
        x = noise(1, 1, 8, 8).requires_grad_()
        resize(x, (side, side), 'bilinear', False).sum().backward()
        assert sum(matrix.nbytes for matrix in module._MATRICES.values()) == kept
    x = noise(1, 1, 16, 16).requires_grad_()
    resize(x, (100, 100), 'bilinear', False).sum().backward()
    assert sum(matrix.nbytes for matrix in module._MATRICES.values()) == 2592 and x.grad.sum() == pytest.approx(1e4)
