"""Text that enters from a later block on: what is before is shared by the sentences of an image, and can be kept."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny import assert_close, gradients, noise, randomize
from torch import nn

from dit_sam.errors import InputError
from dit_sam.structures import TextFeatures

ARCH = dict(embed_dims=24, depth=4, num_heads=3, global_attn_indexes=(1,))
SCHEMES = {
    'layer_wise': dict(type='LayerWiseInstruction'),
    'end_to_end': dict(type='EndToEndInstruction'),
    'layer_wise_static': dict(type='LayerWiseStaticInstruction', max_length=5),
    'end_to_end_static': dict(type='EndToEndStaticInstruction', max_length=5),
    'cross_attention': dict(type='CrossAttentionInstruction', attn_dims=12, num_heads=3, ffn=True, ffn_dims=16),
}


def build(scheme: str, start: int = 0, **kwargs) -> nn.Module:
    instruction = dict(SCHEMES[scheme], text_dims=10, dropout=0.0, start=start)
    sizes = dict(img_size=64, out_channels=8, window_size=3)
    return randomize(MODELS.build(dict(type='DITViT', arch=ARCH, instruction=instruction, **sizes, **kwargs)))


def text(sentences: int = 3) -> TextFeatures:
    mask = torch.ones(sentences, 5, dtype=torch.bool)
    mask[-1, 3:] = False
    return TextFeatures(noise(sentences, 5, 10, seed=1), mask)


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('start', [0, 2, 3])
def test_blocks_before_the_start_see_the_image_alone(scheme, start):
    """Their tokens are those of the encoder without text; those of the first block with text are not."""
    model, images, words = build(scheme, start, out_indices=(0, 1, 2, 3)), noise(3, 3, 64, 64), text()
    with torch.no_grad():
        plain, instructed = model(images), model(images, words)
    equal = [torch.equal(one, other) for one, other in zip(plain, instructed)]
    assert equal == [layer < start for layer in range(4)]


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('with_cp', [False, True])
def test_shared_blocks_run_once_for_an_image_and_have_the_same_gradients(scheme, with_cp):
    images, index, words = noise(2, 3, 64, 64), torch.tensor([0, 0, 1]), text()
    shared, repeated = (build(scheme, 2, with_cp=with_cp) for _ in range(2))
    repeated.load_state_dict(shared.state_dict())
    sizes: dict[int, set[int]] = {layer: set() for layer in range(4)}
    for layer, block in enumerate(shared.blocks):
        block.register_forward_pre_hook(lambda _, args, layer=layer: sizes[layer].add(len(args[0])))
    (one,), (other,) = shared(images, words, index), repeated(images[index], words)
    assert sizes == {0: {2}, 1: {2}, 2: {3}, 3: {3}}
    assert_close(one, other)
    for maps in (one, other):
        maps.square().sum().backward()
    theirs = gradients(repeated)
    for name, gradient in gradients(shared).items():
        assert_close(gradient, theirs[name], 1e-4, name)
    assert all(p.grad is not None for p in shared.parameters() if p.requires_grad)


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('start', [0, 2])
def test_a_kept_trunk_takes_the_place_of_the_images(scheme, start):
    """Also where maps of blocks before the text are returned."""
    model, images, words = build(scheme, start, out_indices=(0, 3)).eval(), noise(1, 3, 64, 64), text()
    index = torch.zeros(3, dtype=torch.long)
    with torch.no_grad():
        trunk = model.trunk(images)
        assert len(trunk[1]) == (1 if start else 0)
        kept, whole = model(images, words, index, trunk), model(images, words, index)
    assert len(whole) == 2 and all(torch.equal(one, other) for one, other in zip(kept, whole))


def test_without_an_instruction_the_trunk_is_everything():
    model = MODELS.build(dict(type='DITViT', arch=ARCH, img_size=64, out_channels=8)).eval()
    images = noise(1, 3, 64, 64)
    with torch.no_grad():
        _, maps = model.trunk(images)
        assert torch.equal(maps[0], model(images)[0])
        assert model(images, text(), torch.zeros(3, dtype=torch.long), model.trunk(images))[0].shape[0] == 3


@pytest.mark.parametrize('scheme', SCHEMES)
def test_weights_keep_the_names_of_their_blocks(scheme):
    """A late model has a part of the names of the paper's, whose checkpoint loads into it as far as they go."""
    whole, late = (build(scheme, start).state_dict() for start in (0, 2))
    assert late.keys() <= whole.keys()
    names = whole.keys() - late.keys()
    assert all('instruction.' in name and ('.0.' in name or '.1.' in name) for name in names)
    static = [name for name in late if name.endswith('static_tokens')]
    assert all(len(late[name]) == len(whole[name]) - 2 for name in static)


@pytest.mark.parametrize('start', [-1, 4, 1.5, None])
def test_a_start_beyond_the_blocks_is_refused(start):
    with pytest.raises(InputError, match=f'backbone.instruction.start={start} must be 0 to 3'):
        build('layer_wise', start)
