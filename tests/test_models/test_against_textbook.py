"""The whole encoder against the textbook's form of it (benchmarks/textbook.py): outputs and all gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.registry import MODELS
from textbook import TextbookEncoder
from tiny import ARCH, assert_close, assert_same_gradients, backbone, gradients, noise, randomize

from dit_sam.structures import TextFeatures

INSTRUCTIONS = {'L-DIT': 'LayerWiseInstruction', 'E-DIT': 'EndToEndInstruction'}
every_scheme = pytest.mark.parametrize('scheme', INSTRUCTIONS)
everywhere = pytest.mark.parametrize('windowed', [True, False], ids=['windowed', 'global'])


def build(scheme, windowed):
    """The tiny encoder and, with its weights, the textbook's in float64."""
    instruction = dict(type=INSTRUCTIONS[scheme], text_dims=16, dropout=0.0)
    model = randomize(MODELS.build(backbone(instruction=instruction, windowed=windowed)))
    exact = TextbookEncoder(
        ARCH, img_size=32, patch_size=8, out_channels=16, window_size=3, windowed=windowed, instruction=instruction
    )
    exact.load_state_dict(model.state_dict(), strict=True)
    return model, exact.double()


def sentences(mask):
    mask = torch.tensor(mask)
    return TextFeatures(noise(*mask.shape, 16, seed=5), mask)


def compare(scheme, windowed, image, text, tolerance=1e-5, autocast=None):
    model, exact = build(scheme, windowed)
    with torch.autocast('cpu', autocast, enabled=autocast is not None):
        (actual,) = model(image, text)
    words = None if text is None else TextFeatures(text.tokens.double(), text.mask)
    expected = exact(image.double(), words)
    assert_close(actual, expected, tolerance)
    weights = noise(*expected.shape, seed=1)
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    assert_same_gradients(gradients(model), gradients(exact), tolerance)


MASKS = dict(padded=[[True, True, True], [True, False, False]], one=[[True]] * 2, none=[[False] * 3] * 2)


@pytest.mark.parametrize('mask', MASKS)
@everywhere
@every_scheme
def test_outputs_and_gradients(scheme, windowed, mask, kernel):
    """Pictures of 24 × 56 pixels, 3 × 7 patches; windows of 3."""
    compare(scheme, windowed, noise(2, 3, 24, 56), sentences(MASKS[mask]))


@everywhere
@every_scheme
def test_without_text(scheme, windowed, kernel):
    compare(scheme, windowed, noise(2, 3, 40, 32), None)


@everywhere
@every_scheme
def test_bfloat16_stays_within_its_rounding(scheme, windowed, kernel):
    """A relative step is 2⁻⁸; the gradients have come through three blocks and back."""
    compare(scheme, windowed, noise(2, 3, 24, 56), sentences(MASKS['padded']), 8 * 2**-8, torch.bfloat16)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    scheme=st.sampled_from(sorted(INSTRUCTIONS)),
    windowed=st.booleans(),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    mask=st.integers(1, 4).flatmap(
        lambda length: st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=2)
    ),
)
def test_any_size(scheme, windowed, grid, mask):
    compare(scheme, windowed, noise(len(mask), 3, 8 * grid[0], 8 * grid[1]), sentences(mask))


# Every pair of settings, not every combination.
@pytest.mark.parametrize(
    'scheme, grad, kernel',
    [('L-DIT', False, 'plain'), ('L-DIT', True, 'fused'), ('E-DIT', False, 'fused'), ('E-DIT', True, 'plain')],
    indirect=['kernel'],
)
def test_it_compiles_without_graph_breaks(scheme, grad, kernel):
    """Also for longer text in the second batch, from which on the compiler takes its length for a variable."""
    instruction = dict(type=INSTRUCTIONS[scheme], text_dims=16, dropout=0.0)
    # A third block would be the first one's code again.
    model = randomize(MODELS.build(backbone(arch=dict(ARCH, depth=2), instruction=instruction)))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    image = noise(2, 3, 24, 56)
    with torch.set_grad_enabled(grad):
        for mask in ([[True, True, True], [True, False, False]], [[True] * 5, [False] * 5]):
            text = sentences(mask)
            actual, expected = compiled(image, text)[0], model(image, text)[0]
            assert_close(actual, expected)
            if grad:
                assert_same_gradients(*(_gradients_of(model, output) for output in (actual, expected)))


def _gradients_of(model, output):
    model.zero_grad()
    output.square().sum().backward()
    return {name: grad.clone() for name, grad in gradients(model).items()}
