"""Every scheme by which text enters the image encoder."""

import pytest
import torch
import torch.distributed as dist
from equations import double, words_of
from mmengine.config import Config
from mmseg.registry import MODELS
from processes import ROOT
from textbook import attention
from tiny import assert_close, assert_same_gradients, backbone, gradients, noise, randomize
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from dit_sam.models import CrossAttentionInstruction, DITViT, LayerWiseStaticInstruction
from dit_sam.structures import TextFeatures

SCHEMES = {
    'L-DIT': dict(type='LayerWiseInstruction'),
    'E-DIT': dict(type='EndToEndInstruction'),
    'L-DIT static': dict(type='LayerWiseStaticInstruction', max_length=5),
    'E-DIT static': dict(type='EndToEndStaticInstruction', max_length=5),
    'cross-attention': dict(type='CrossAttentionInstruction', attn_dims=16, num_heads=2),
    'cross-attention + FFN': dict(type='CrossAttentionInstruction', attn_dims=16, num_heads=2, ffn=True, ffn_dims=32),
    'cross-attention to LN(V)': dict(type='CrossAttentionInstruction', attn_dims=16, num_heads=2, norm_visual=True),
}
every_scheme = pytest.mark.parametrize('scheme', SCHEMES)


def build(scheme='L-DIT', text_dims=16, dropout=0.0, seed=0, **kwargs) -> DITViT:
    """The tiny encoder under an instruction. Without a seed it is as built, zeros and all."""
    instruction = dict(SCHEMES[scheme], text_dims=text_dims, dropout=dropout)
    model = MODELS.build(backbone(instruction=instruction, **kwargs))
    if seed is not None:
        return randomize(model, seed)
    model.init_weights()
    return model


def sentences(text_dims=16, mask=((True, True, True), (True, True, False))) -> TextFeatures:
    mask = torch.tensor(mask)
    return TextFeatures(noise(*mask.shape, text_dims, seed=5), mask)


def by_the_paper(model: DITViT, scheme: str, image: torch.Tensor, text: TextFeatures) -> torch.Tensor:
    """The equations block by block, with the textbook's attention, in float64."""
    model = double(model)
    visual, instruction = model.embed(image.double()), model.instruction
    features, words = instruction.text_projection(text.tokens.double()), None
    for layer, block in enumerate(model.blocks):
        words = words_of(SCHEMES[scheme]['type'], instruction, layer, features, words, visual)
        attended = attention(block.attn, block.norm1(visual), block.norm1(words), text.mask, block.attn.window_size)
        visual, words = visual + attended[0], words + attended[1]
        visual, words = (tokens + block.mlp(block.norm2(tokens)) for tokens in (visual, words))
    return model.neck(visual.permute(0, 3, 1, 2))


@pytest.mark.parametrize('text_dims', [16, 24], ids=['other width', 'same width'])
@pytest.mark.parametrize('windowed', [True, False], ids=['windowed', 'global'])
@every_scheme
def test_against_the_equations(scheme, windowed, text_dims):
    """Pictures of 29 × 37 pixels: 4 × 5 patches of 8, the last ones cut short; windows of 3."""
    model, image, text = build(scheme, text_dims, windowed=windowed), noise(2, 3, 29, 37), sentences(text_dims)
    assert_close(model(image, text)[0], by_the_paper(model, scheme, image, text))


@every_scheme
def test_one_token_is_enough(scheme):
    model, image, text = build(scheme), noise(2, 3, 32, 32), sentences(mask=[[True]] * 2)
    assert_close(model(image, text)[0], by_the_paper(model, scheme, image, text))


@pytest.mark.parametrize('windowed', [True, False], ids=['windowed', 'global'])
@every_scheme
def test_padding_tokens_change_nothing(scheme, windowed):
    model, image, text = build(scheme, windowed=windowed), noise(2, 3, 32, 40), sentences()
    other = text.tokens.clone()
    other[~text.mask] = 100.0
    assert_close(model(image, TextFeatures(other, text.mask))[0], model(image, text)[0], 1e-6)
    other[text.mask] += 1.0
    assert (model(image, TextFeatures(other, text.mask))[0] - model(image, text)[0]).abs().max() > 1e-2


@every_scheme
def test_fully_masked_text_is_like_no_text(scheme):
    model, image = build(scheme), noise(2, 3, 32, 40)
    assert_close(model(image, sentences(mask=[[False] * 3] * 2))[0], model(image)[0])


@every_scheme
def test_each_image_uses_only_its_own_sentence(scheme):
    """A batch equals single sentences, each at its own length, and different sentences give different results."""
    model, image, text = build(scheme), noise(2, 3, 32, 40), sentences()
    (together,) = model(image, text)
    for i, count in enumerate((3, 2)):
        alone = TextFeatures(text.tokens[i : i + 1, :count], text.mask[i : i + 1, :count])
        assert_close(together[i : i + 1], model(image[i : i + 1], alone)[0])
    assert (together[:1] - model(image[:1], TextFeatures(text.tokens[1:], text.mask[1:]))[0]).abs().max() > 1e-2


# The weights with a non-zero gradient in the first step, for the schemes that start without effect.
FIRST_TO_LEARN = {
    'L-DIT': ['projections.0.weight', 'projections.2.weight'],
    'E-DIT': ['projections.0.weight', 'projections.2.weight'],
    'E-DIT static': ['projection.weight', 'static_tokens'],
}


@pytest.mark.parametrize('scheme', FIRST_TO_LEARN)
def test_text_has_no_effect_at_the_start_and_the_instruction_learns(scheme):
    model, image, text = build(scheme, seed=None, windowed=False), noise(2, 3, 32, 32), sentences()
    (output,) = model(image, text)
    (other,) = model(image, TextFeatures(3 * text.tokens.flip(2), text.mask))
    assert torch.equal(output, other)
    (output * noise(*output.shape)).sum().backward()
    weights = dict(model.instruction.named_parameters())
    assert all(weights[name].grad.any() for name in FIRST_TO_LEARN[scheme])


@pytest.mark.parametrize('scheme', [name for name in SCHEMES if 'cross-attention' in name])
def test_the_text_of_cross_attention_enters_at_full_size_from_the_start(scheme):
    """A norm of weight 1 gives tokens of standard deviation 1; they differ between words by as much."""
    instruction = build(scheme, seed=None).instruction
    for layer in range(3):
        tokens = instruction(layer, noise(2, 3, 24), None, noise(2, 4, 4, 24, seed=1))
        assert_close(tokens.std(-1, correction=0), torch.ones(2, 3), 1e-3)
        assert (tokens[:, 0] - tokens[:, 1]).std() > 0.5


@pytest.mark.parametrize('scheme', ['L-DIT static', 'E-DIT static'])
def test_static_tokens_start_at_zero_and_learn_from_the_first_step(scheme):
    model = build(scheme, seed=None)
    static = model.instruction.static_tokens
    assert static.shape == ({'L-DIT static': 3, 'E-DIT static': 2}[scheme], 5, 24)
    assert not static.any()
    model(noise(2, 3, 32, 32), sentences())[0].pow(2).sum().backward()
    assert static.grad[:, :2].flatten(1).any(1).all()
    assert not static.grad[:, 3:].any()  # no sentence is that long


def as_reduced(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """The gradients of the only rank."""
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


@every_scheme
def test_distributed_training_waits_for_no_parameter(scheme):
    """Every parameter gets a gradient, possibly zero, in every step; otherwise the second step would raise an error.

    The group has no threads. When gloo's is freed, its threads and the interpreter can wait for each other forever.
    """
    dist.init_process_group('fake', store=FakeStore(), rank=0, world_size=1)
    try:
        for seed in (None, 0):
            model = DistributedDataParallel(build(scheme, seed=seed))
            model.register_comm_hook(None, as_reduced)
            for _ in range(2):
                model(noise(2, 3, 32, 32), sentences())[0].pow(2).sum().backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
    finally:
        dist.destroy_process_group()


def test_static_tokens_that_no_block_adds_do_not_train():
    """E-DIT adds them after the block where the text enters, and the last block has none after it."""
    instruction = MODELS.build(
        dict(type='EndToEndStaticInstruction', depth=3, start=2, embed_dims=24, text_dims=24, max_length=5)
    )
    assert instruction.static_tokens.shape[0] == 0 and not instruction.static_tokens.requires_grad


@pytest.mark.parametrize('frozen', [True, False], ids=['frozen', 'tuned'])
@every_scheme
def test_checkpointed_activations_give_the_same_gradients(scheme, frozen):
    """Dropout included: the second pass draws what the first one drew."""
    plain, checkpointed = (
        build(scheme, dropout=0.3, frozen=frozen, with_cp=with_cp).train() for with_cp in (False, True)
    )
    checkpointed.load_state_dict(plain.state_dict())
    for model in (plain, checkpointed):
        torch.manual_seed(1)
        model(noise(2, 3, 32, 32), sentences())[0].pow(2).sum().backward()
    assert any(gradient.any() for gradient in gradients(plain).values())
    assert_same_gradients(gradients(checkpointed), gradients(plain), 1e-6)


@every_scheme
def test_dropout_acts_in_training_only(scheme):
    model, image, text = build(scheme, dropout=0.5), noise(2, 3, 32, 32), sentences()
    model.eval()
    assert torch.equal(model(image, text)[0], model(image, text)[0])
    model.train()
    assert not torch.equal(model(image, text)[0], model(image, text)[0])


def test_the_paper_drops_a_tenth():
    cfg = Config.fromfile(ROOT / 'configs' / 'dit_sam' / 'ldit_vit-b.py').model.backbone.instruction
    with torch.device('meta'):
        assert MODELS.build(dict(cfg, embed_dims=768, depth=12)).dropout.p == 0.1


def test_dropout_acts_on_attention_and_ffn_before_their_sums():
    """If everything is dropped, LN(LN(F_t)) is left."""
    sizes = dict(attn_dims=16, num_heads=2, ffn_dims=32, embed_dims=24, depth=2, text_dims=24)
    scheme = randomize(CrossAttentionInstruction(ffn=True, dropout=1.0, **sizes)).train()
    text, (first, second) = noise(2, 3, 24), scheme.layers['1'].norms
    assert_close(scheme(1, text, None, noise(2, 4, 4, 24, seed=1)), second(first(text)), 1e-6)


def test_static_tokens_are_never_dropped():
    scheme = LayerWiseStaticInstruction(max_length=4, embed_dims=24, depth=3, text_dims=24, dropout=1.0)
    tokens = randomize(scheme).train()(2, noise(2, 3, 24), None, noise(2, 4, 4, 24))
    assert torch.equal(tokens, scheme.static_tokens[2, :3].expand(2, 3, 24))


@every_scheme
def test_out_indices_give_one_map_per_block(scheme):
    model = build(scheme, out_indices=(0, 1, 2))
    outputs = model(noise(2, 3, 20, 30), sentences())
    assert [output.shape for output in outputs] == [(2, 16, 3, 4)] * 3
    alone = build(scheme)
    alone.load_state_dict(model.state_dict())
    assert_close(outputs[-1], alone(noise(2, 3, 20, 30), sentences())[0])


@every_scheme
def test_blocks_that_do_not_run_have_no_instruction(scheme):
    model = build(scheme, out_indices=(0, 1))
    assert model.instruction.depth == 2
    sum(output.pow(2).sum() for output in model(noise(2, 3, 32, 32), sentences())).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith('blocks.2.')}


@every_scheme
def test_text_of_another_width_says_what_to_set(scheme):
    with pytest.raises(ValueError, match='width 20, the instruction expects text_dims=16; set backbone.instruction'):
        build(scheme)(noise(2, 3, 32, 32), sentences(20))


@pytest.mark.parametrize('scheme', ['L-DIT static', 'E-DIT static'])
def test_text_longer_than_the_static_tokens_says_what_to_set(scheme):
    model, image = build(scheme), noise(1, 3, 32, 32)
    model(image, sentences(mask=[[True] * 5]))
    with pytest.raises(ValueError, match='gives 6 tokens.*max_length=5.*set backbone.instruction.max_length'):
        model(image, sentences(mask=[[True] * 6]))


@every_scheme
def test_a_shared_projection_exists_if_the_widths_differ(scheme):
    assert build(scheme, text_dims=16).instruction.text_projection.weight.shape == (24, 16)
    assert not list(build(scheme, text_dims=24).instruction.text_projection.parameters())


def test_cross_attention_equals_torch():
    """`nn.MultiheadAttention` attends in the width of the text."""
    scheme = CrossAttentionInstruction(attn_dims=24, num_heads=3, embed_dims=24, depth=2, text_dims=24)
    layer, reference = randomize(scheme).eval().layers['1'], nn.MultiheadAttention(24, 3, batch_first=True)
    text, visual = noise(2, 3, 24), noise(2, 4, 5, 24, seed=1)
    projections = [layer.q_proj, layer.k_proj, layer.v_proj]
    reference.load_state_dict(
        {
            'in_proj_weight': torch.cat([projection.weight for projection in projections]),
            'in_proj_bias': torch.cat([projection.bias for projection in projections]),
            'out_proj.weight': layer.out_proj.weight,
            'out_proj.bias': layer.out_proj.bias,
        }
    )
    image = visual.flatten(1, 2)
    expected = layer.norms[0](text + reference(text, image, image)[0])
    assert_close(scheme(1, text, None, visual), expected)


def test_heads_that_do_not_divide_the_width_are_an_error():
    with pytest.raises(ValueError, match='num_heads=5 does not divide attn_dims=512; change one of them'):
        CrossAttentionInstruction(num_heads=5, embed_dims=24, depth=2, text_dims=24)
