"""Which parts of a segmentor get text."""

import pytest
import torch
from mmseg.registry import MODELS
from tiny import ARCH, assert_close, backbone, batch, decode_head, randomize, segmentor
from torch import nn

from dit_sam.errors import InputError
from dit_sam.models import DITViT

SCHEMES = [None, 'LayerWiseInstruction', 'EndToEndInstruction']


class Wrapper(nn.Module):
    """A wrapper like FSDP, which hides the arguments of the wrapped part."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


NO_TEXT = dict(type='SAMViT', arch=ARCH, img_size=32, patch_size=8, out_channels=16, window_size=3)


@pytest.mark.parametrize(
    'encoder',
    [NO_TEXT, *(backbone(instruction=scheme and dict(type=scheme, text_dims=16)) for scheme in SCHEMES)],
    ids=['no text', 'default', 'L-DIT', 'E-DIT'],
)
@pytest.mark.parametrize(
    'wrap', [Wrapper, lambda part: torch.compile(part, backend='eager')], ids=['wrapper', 'torch.compile']
)
def test_text_reaches_parts_that_are_wrapped_later(encoder, wrap):
    model, data = segmentor(backbone=encoder).eval(), batch([(32, 32)] * 3, ['cat', 'dog', 'the red box'])
    data['inputs'] = [data['inputs'][0].clone() for _ in range(3)]
    data['data_samples'][1].set_metainfo(dict(box=torch.tensor([1.0, 1.0, 9.0, 9.0])))
    with torch.no_grad():
        before = [result.seg_logits.data for result in model.test_step(data)]
        model.backbone, model.decode_head = wrap(model.backbone), wrap(model.decode_head)
        after = [result.seg_logits.data for result in model.test_step(data)]
    assert not torch.allclose(before[0], before[1])
    for actual, expected in zip(after, before):
        assert_close(actual, expected, 1e-6)


@MODELS.register_module()
class AnyKeywords(nn.Module):
    """A backbone that passes all keywords on."""

    def __init__(self, inner: dict) -> None:
        super().__init__()
        self.inner = MODELS.build(inner)

    def forward(self, x, **kwargs):
        return self.inner(x, **kwargs)


def test_a_part_with_keywords_gets_text():
    plain, wrapped = segmentor().eval(), segmentor(backbone=dict(type='AnyKeywords', inner=backbone())).eval()
    wrapped.load_state_dict(
        {name.replace('backbone.', 'backbone.inner.'): value for name, value in plain.state_dict().items()}
    )
    data = plain.data_preprocessor(batch())
    assert torch.equal(wrapped(**data), plain(**data))


@MODELS.register_module()
class NoImageIndex(DITViT):
    """A backbone whose keywords do not name the images."""

    def forward(self, x, text=None, **kwargs):
        assert not kwargs.keys() - {'prompts'}
        return super().forward(x, text)


def test_keyword_arguments_do_not_imply_image_index():
    """The images are repeated for it, as for any backbone that does not share them."""
    model = segmentor(backbone=backbone(type='NoImageIndex')).eval()
    data = model.data_preprocessor(batch([(32, 32)] * 2, ['cat', 'dog']))
    data['inputs'][1] = data['inputs'][0]
    apart = model(**data)
    for item in data['data_samples']:
        item.set_metainfo(dict(unique_image_index=0))
    assert_close(model(**data), apart, 1e-6)


@MODELS.register_module()
class NoTextArgument(DITViT):
    """It has an instruction, and no argument for the text."""

    def forward(self, *images):
        return super().forward(*images)


def test_a_part_that_takes_text_and_has_no_argument_for_it_is_an_error():
    with pytest.raises(InputError, match='NoTextArgument.forward has no argument `text`, so no text would reach it'):
        segmentor(backbone=backbone(type='NoTextArgument'))


def test_a_replaced_part_gets_its_own_arguments():
    model = segmentor(backbone=NO_TEXT)
    model.backbone = randomize(MODELS.build(backbone()))
    model.eval()
    data = model.data_preprocessor(batch([(32, 32)] * 2, ['cat', 'dog']))
    words = model.encode_text(data['data_samples'])
    with torch.no_grad():
        assert torch.equal(model.extract_feat(data['inputs'], words)[0], model.backbone(data['inputs'], words)[0])


PLAIN_HEAD = dict(type='FCNHead', in_channels=16, channels=8, num_classes=2, num_convs=1)


@pytest.mark.parametrize('head', [decode_head(text_dims=None), PLAIN_HEAD], ids=lambda head: head['type'])
@pytest.mark.parametrize('encoder', [backbone(instruction=None), NO_TEXT], ids=lambda encoder: encoder['type'])
def test_text_that_no_part_takes_is_an_error_when_the_model_is_built(encoder, head):
    with pytest.raises(
        InputError,
        match=rf'model.text_encoder gives text that no part takes: model.backbone '
        rf'\({encoder["type"]}\).*model.decode_head \({head["type"]}\).*text_encoder=None',
    ):
        segmentor(backbone=encoder, decode_head=head)
    segmentor(backbone=encoder, decode_head=head, text_encoder=None)


SAMS_HEAD = decode_head(text_dims=None)


@pytest.mark.parametrize(
    'encoder, head, part',
    [(backbone(), SAMS_HEAD, r'backbone \(DITViT\)'), (NO_TEXT, decode_head(), r'decode_head \(SAMHead\)')],
    ids=['backbone', 'head'],
)
def test_a_part_that_takes_text_without_a_text_encoder_is_an_error(encoder, head, part):
    with pytest.raises(InputError, match=f'model.{part} takes text, and model.text_encoder=None gives none'):
        segmentor(backbone=encoder, decode_head=head, text_encoder=None)


def test_parts_that_are_replaced_are_checked_at_their_next_use():
    """Not at once, so that several can be replaced."""
    model = segmentor(decode_head=SAMS_HEAD).eval()
    data, words = model.data_preprocessor(batch()), model.text_encoder
    model.backbone = MODELS.build(NO_TEXT)
    with pytest.raises(InputError, match='gives text that no part takes'):
        model(**data)
    model.text_encoder = None
    model(**data)
    model.decode_head = MODELS.build(decode_head())
    with pytest.raises(InputError, match=r'decode_head \(SAMHead\) takes text'):
        model(**data)
    model.text_encoder = words
    model(**data)


def test_the_backbone_alone_may_take_text():
    model = segmentor(decode_head=decode_head(text_dims=None)).eval()
    logits = [model(**model.data_preprocessor(batch([(32, 32)], [text]))) for text in ('cat', 'dog')]
    assert (logits[0] - logits[1]).abs().max() > 1e-3
