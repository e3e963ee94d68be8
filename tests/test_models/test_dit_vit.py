"""SAM's image encoder under instruction; the schemes themselves are in test_instructions.py."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny import assert_close, backbone, noise, randomize

from dit_sam.errors import InputError
from dit_sam.models import DITViT, Instruction, SAMViT
from dit_sam.structures import TextFeatures

L_DIT = dict(type='LayerWiseInstruction', text_dims=16, dropout=0.0)


def build(**kwargs) -> DITViT:
    """The tiny L-DIT encoder, 4 × 4 tokens at 32²."""
    return randomize(MODELS.build(backbone(**dict(dict(instruction=L_DIT), **kwargs))))


def sentences(text_dims=16, batch=2) -> TextFeatures:
    return TextFeatures(noise(batch, 3, text_dims, seed=5), torch.ones(batch, 3, dtype=torch.bool))


@pytest.mark.parametrize('instruction,text', [(None, sentences()), (L_DIT, None)], ids=['no instruction', 'no text'])
def test_without_instruction_or_text_it_equals_its_parent(instruction, text):
    model = build(instruction=instruction)
    config = {key: value for key, value in backbone().items() if key not in ('type', 'instruction')}
    parent = SAMViT(**config)
    parent.load_state_dict({name: value for name, value in model.state_dict().items() if 'instruction' not in name})
    image = noise(2, 3, 32, 40)
    assert torch.equal(model(image, text)[0], parent(image)[0])


class Recorder(Instruction):
    """An instruction that returns the text and records its arguments."""

    keeps_outputs = True

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.calls = []

    def forward(self, layer, text, previous, visual):
        self.calls.append((layer, text, previous, visual))
        return text


@pytest.mark.parametrize('keeps_outputs', [True, False])
def test_the_instruction_gets_the_documented_arguments(keeps_outputs):
    """For each layer the projected text, the text tokens after the previous block, and the visual tokens."""
    model = build()
    model.instruction = randomize(Recorder(embed_dims=24, depth=3, text_dims=16))
    model.instruction.keeps_outputs = keeps_outputs
    image, text = noise(2, 3, 32, 40), sentences()
    model(image, text)
    features, visual, made = model.instruction.project(text.tokens), model.embed(image), None
    assert [call[0] for call in model.instruction.calls] == [0, 1, 2]
    for layer, words, previous, seen in model.instruction.calls:
        assert torch.equal(words, features) and torch.equal(seen, visual)
        assert previous is None if made is None else torch.equal(previous, made)
        visual, made = model.blocks[layer](visual, features, text.mask, keep_text=keeps_outputs)


class MeanWord(Instruction):
    """Every token is the mean of the real words, in the first block only, with one gate."""

    takes_mask = True

    def __init__(self, **kwargs) -> None:
        super().__init__(dropout=0.0, **kwargs)
        self.gate = torch.nn.Parameter(torch.zeros(()))

    def init_weights(self):
        super().init_weights()
        torch.nn.init.constant_(self.gate, 0.5)

    def forward(self, layer, text, previous, visual, mask):
        if layer:
            return None
        mean = (text * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        return self.gate * mean.expand_as(text)


def test_an_instruction_can_read_the_mask_and_leave_out_blocks():
    """Padding then changes nothing, and the text has an effect."""
    model = build()
    model.instruction = randomize(MeanWord(embed_dims=24, depth=3, text_dims=16))
    image, text = noise(1, 3, 32, 40), sentences(batch=1)
    padded = TextFeatures(
        torch.cat([text.tokens, noise(1, 2, 16, seed=6)], 1), torch.tensor([[True, True, True, False, False]])
    )
    assert_close(model(image, padded)[0], model(image, text)[0], 1e-6)
    assert not torch.allclose(model(image, text)[0], model(image)[0], atol=1e-3)


def test_text_tokens_of_another_shape_are_an_error():
    model = build()
    model.instruction = MeanWord(embed_dims=24, depth=3, text_dims=16)
    model.instruction.forward = lambda layer, text, previous, visual, mask: text[:, :1]
    with pytest.raises(
        InputError, match=r'MeanWord gives block 0 text tokens of shape \(2, 1, 24\), and .*\(2, 3, 24\)'
    ):
        model(noise(2, 3, 32, 40), sentences())


def test_an_instruction_is_initialized_beside_the_weights_of_sam(tmp_path):
    sam = build(instruction=None)
    torch.save({f'image_encoder.{name}': value for name, value in sam.state_dict().items()}, tmp_path / 'sam.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'sam.pth'))
    model = MODELS.build(backbone(instruction=L_DIT, init_cfg=init_cfg))
    model.instruction = MeanWord(embed_dims=24, depth=3, text_dims=16)
    model.init_weights()
    assert model.instruction.gate == 0.5 and torch.equal(model.pos_embed, sam.pos_embed)


def test_only_running_blocks_call_the_instruction():
    model = build(out_indices=(0, 1))
    model.instruction = Recorder(embed_dims=24, depth=2, text_dims=16)
    model(noise(2, 3, 32, 32), sentences())
    assert [call[0] for call in model.instruction.calls] == [0, 1]


@pytest.mark.parametrize(
    'index,message',
    [
        (None, '2 images with 1 sentences'),
        (torch.tensor([0, 1]), r'image_index has shape \(2,\), and there are 1 sentences: give one index'),
    ],
    ids=['none', 'too many'],
)
def test_numbers_that_do_not_fit_are_an_error(index, message):
    with pytest.raises(ValueError, match=message):
        build()(noise(2, 3, 32, 32), sentences(batch=1), index)


@pytest.mark.parametrize(
    'instruction', [None, L_DIT, dict(L_DIT, type='EndToEndInstruction')], ids=['default', 'L-DIT', 'E-DIT']
)
def test_sentences_share_their_image(instruction):
    """As with the images repeated, and the image is embedded, or without instruction encoded, only once."""
    model, image, text = build(instruction=instruction), noise(2, 3, 32, 40), sentences(batch=3)
    index, seen = torch.tensor([1, 0, 1]), []
    hooked = model.patch_embed if instruction else model.blocks[-1]
    hooked.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    assert_close(model(image, text, index)[0], model(image[index], text)[0], 1e-6)
    assert seen == [2, 3]


def test_text_features_check_their_shapes():
    with pytest.raises(ValueError, match=r'got \(2, 3, 16\) and \(2, 4\)'):
        TextFeatures(noise(2, 3, 16), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match='needs a mask of bool, True at real tokens, got torch.int64'):
        TextFeatures(noise(2, 3, 16), torch.ones(2, 3, dtype=torch.long))
