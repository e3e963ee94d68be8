"""SAM's image encoder under instruction."""
import pytest
import torch
from mmseg.registry import MODELS
from textbook import attention, double
from tiny import ARCH, assert_close, assert_same_gradients, backbone, gradients, noise, randomise

from dit_sam.models import DITViT, SAMViT
from dit_sam.structures import TextFeatures

SCHEMES = ['LayerWiseInstruction', 'EndToEndInstruction']
every_scheme = pytest.mark.parametrize('scheme', SCHEMES)


def build(scheme='LayerWiseInstruction', text_dims=16, dropout=0., **kwargs) -> DITViT:
    """The tiny encoder, 4 × 4 tokens at 32², under an instruction."""
    return randomise(MODELS.build(backbone(
        instruction=dict(type=scheme, text_dims=text_dims, dropout=dropout), **kwargs)))


def sentences(text_dims=16, batch=2, mask=((True, True, True), (True, True, False))) -> TextFeatures:
    return TextFeatures(noise(batch, 3, text_dims, seed=5), torch.tensor(mask[:batch]))


def by_the_paper(model: DITViT, scheme: str, image: torch.Tensor, text: TextFeatures) -> torch.Tensor:
    """Equations of E-DIT and L-DIT block by block, with the textbook's attention, in float64."""
    model = double(model)
    visual, instruction = model.embed(image.double()), model.instruction
    features = instruction.text_projection(text.tokens.double())
    words = features
    for block, projection in zip(model.blocks, instruction.projections):
        words = projection(features if scheme == 'LayerWiseInstruction' else words)
        attended = attention(block.attn, block.norm1(visual), block.norm1(words), text.mask)
        visual, words = visual + attended[0], words + attended[1]
        visual, words = (tokens + block.mlp(block.norm2(tokens)) for tokens in (visual, words))
    return model.neck(visual.permute(0, 3, 1, 2))


@pytest.mark.parametrize('text_dims', [16, 24], ids=['other width', 'same width'])
@pytest.mark.parametrize('windowed', [True, False], ids=['windowed', 'global'])
@every_scheme
def test_against_the_equations(scheme, windowed, text_dims):
    model, image, text = build(scheme, text_dims, windowed=windowed), noise(2, 3, 32, 40), sentences(text_dims)
    assert_close(model(image, text)[0], by_the_paper(model, scheme, image, text))


def test_a_shared_projection_is_there_where_the_widths_differ():
    assert build(text_dims=16).instruction.text_projection.weight.shape == (24, 16)
    assert not list(build(text_dims=24).instruction.text_projection.parameters())


@every_scheme
def test_at_the_start_every_projection_is_zero(scheme):
    model = MODELS.build(backbone(instruction=dict(type=scheme, text_dims=24)))
    model.init_weights()
    assert len(model.instruction.projections) == ARCH['depth']
    for projection in model.instruction.projections:
        assert projection.weight.shape == (24, 24)
        assert not projection.weight.any() and not projection.bias.any()


@every_scheme
def test_at_the_start_all_sentences_look_alike_and_every_projection_learns(scheme):
    """With P_i = 0 the tokens are zero whatever the sentence is; their projections still get a gradient."""
    model = MODELS.build(backbone(instruction=dict(type=scheme, text_dims=16), windowed=False))
    model.init_weights()
    image, text = noise(2, 3, 32, 32), sentences()
    output, = model(image, text)
    other, = model(image, TextFeatures(3 * text.tokens.flip(2), text.mask))
    assert torch.equal(output, other)
    (output * noise(*output.shape)).sum().backward()
    assert all(projection.weight.grad.any() for projection in model.instruction.projections)


@pytest.mark.parametrize('instruction,text', [(None, sentences()), (dict(type=SCHEMES[0], text_dims=16), None)],
                         ids=['no instruction', 'no text'])
def test_without_instruction_or_text_it_is_its_parent(instruction, text):
    model = randomise(MODELS.build(backbone(instruction=instruction)))
    config = {key: value for key, value in backbone().items() if key not in ('type', 'instruction')}
    parent = SAMViT(**config)
    parent.load_state_dict({name: value for name, value in model.state_dict().items() if 'instruction' not in name})
    image = noise(2, 3, 32, 40)
    assert torch.equal(model(image, text)[0], parent(image)[0])


@every_scheme
def test_text_that_is_masked_throughout_is_as_none(scheme):
    model, image = build(scheme), noise(2, 3, 32, 40)
    assert_close(model(image, sentences(mask=[[False] * 3] * 2))[0], model(image)[0])


@every_scheme
def test_each_image_meets_its_own_sentence(scheme):
    model, image, text = build(scheme), noise(2, 3, 32, 40), sentences()
    together, = model(image, text)
    for i, count in enumerate((3, 2)):
        alone = TextFeatures(text.tokens[i:i + 1, :count], text.mask[i:i + 1, :count])
        assert_close(together[i:i + 1], model(image[i:i + 1], alone)[0])
    assert (together[:1] - model(image[:1], TextFeatures(text.tokens[1:], text.mask[1:]))[0]).abs().max() > 1e-2


@every_scheme
def test_frozen_the_instruction_still_trains(scheme):
    model = build(scheme, frozen=True)
    model(noise(2, 3, 32, 32), sentences())[0].pow(2).sum().backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, _ in model.named_parameters() if name.startswith('instruction.')}


@every_scheme
def test_checkpointed_activations_give_the_same_gradients(scheme):
    plain, checkpointed = build(scheme).train(), build(scheme, with_cp=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    for model in (plain, checkpointed):
        model(noise(2, 3, 32, 32), sentences())[0].pow(2).sum().backward()
    assert_same_gradients(gradients(checkpointed), gradients(plain), 1e-6)


@every_scheme
def test_dropout_acts_in_training_only(scheme):
    model, image, text = build(scheme, dropout=0.5), noise(2, 3, 32, 32), sentences()
    model.eval()
    assert torch.equal(model(image, text)[0], model(image, text)[0])
    model.train()
    assert not torch.equal(model(image, text)[0], model(image, text)[0])


@every_scheme
def test_out_indices_give_a_map_a_block(scheme):
    model = build(scheme, out_indices=(0, 1, 2))
    outputs = model(noise(2, 3, 20, 30), sentences())
    assert [output.shape for output in outputs] == [(2, 16, 3, 4)] * 3
    alone = build(scheme)
    alone.load_state_dict(model.state_dict())
    assert_close(outputs[-1], alone(noise(2, 3, 20, 30), sentences())[0])


def test_text_of_another_width_says_what_to_set():
    with pytest.raises(ValueError, match='width 20, the instruction expects text_dims=16; set backbone.instruction'):
        build()(noise(2, 3, 32, 32), sentences(20))


def test_another_number_of_sentences_than_images_is_an_error():
    with pytest.raises(ValueError, match='2 images with 1 sentences'):
        build()(noise(2, 3, 32, 32), sentences(batch=1))


def test_text_features_check_their_shapes():
    with pytest.raises(ValueError, match=r'got \(2, 3, 16\) and \(2, 4\)'):
        TextFeatures(noise(2, 3, 16), torch.ones(2, 4, dtype=torch.bool))
