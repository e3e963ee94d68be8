"""Training steps on a GPU do not make the host wait, and use no nondeterministic operations.

On the device 'meta' tensors have no content. Whatever needs a number on the host fails there, as `item` and `nonzero`,
and copies to it are those that would go to a GPU.
"""

import itertools

import pytest
import torch
from mmseg.registry import MODELS
from tiny import ARCH, backbone, batch, decode_head, segmentor, text_encoder
from torch.utils._python_dispatch import TorchDispatchMode

from dit_sam.models.text_encoders.text_models import build_model, make_config

INSTRUCTIONS = dict(
    default=None,
    ldit=dict(type='LayerWiseInstruction', text_dims=16),
    edit=dict(type='EndToEndInstruction', text_dims=16),
    ldit_static=dict(type='LayerWiseStaticInstruction', text_dims=16, max_length=8),
    edit_static=dict(type='EndToEndStaticInstruction', text_dims=16, max_length=8),
    cross=dict(type='CrossAttentionInstruction', text_dims=16, ffn=True, attn_dims=8, num_heads=2, ffn_dims=16),
)
LOSSES = [dict(type='BinaryCrossEntropyLoss'), dict(type='BinaryDiceLoss')]

# Operations that `torch.use_deterministic_algorithms` refuses on GPUs and that a model might use.
REFUSED = (
    'upsample_linear1d_backward',
    'upsample_bilinear2d_backward',
    'upsample_bicubic2d_backward',
    'nll_loss',
    'adaptive_avg_pool',
    'adaptive_max_pool',
    'reflection_pad',
    'grid_sampler',
    'histc',
    'bincount',
    'median',
    '_embedding_bag',
    'kthvalue',
    'put_',
)
# Operations that it slows down, by adding in a fixed order.
SLOWED = ('cumsum', 'scatter', 'index_add', 'index_select', 'gather', 'repeat_interleave')


class GPU(TorchDispatchMode):
    """Records operations that would make the host wait for a GPU, or that are slow or impossible deterministically."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.__name__.split('.')[0]
        out = func(*args, **kwargs)
        source = args[1] if name == 'copy_' else args[0] if args else None
        if isinstance(source, torch.Tensor) and isinstance(out, torch.Tensor):
            waits = source.device != out.device and not (kwargs.get('non_blocking') or (name == 'copy_' and args[2:]))
            if name in ('copy_', '_to_copy') and waits:
                self.noted.add(f'{name}, which blocks')
        if name == 'index' and any(i is not None and i.device != args[0].device for i in args[1]):
            self.noted.add('index by numbers of the host')
        if name.startswith(REFUSED + SLOWED) and isinstance(out, torch.Tensor) and out.is_floating_point():
            self.noted.add(name)
        return out


def step(model, data) -> None:
    data = model.data_preprocessor(data, training=True)
    losses = model(**data, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()


@pytest.fixture
def on_meta():
    def build(**parts):
        with torch.device('meta'):
            model = segmentor(seed=None, **parts).train()
        model.data_preprocessor.to('meta')
        return model

    return build


@pytest.mark.parametrize('scheme, head', itertools.product(INSTRUCTIONS, ['SAMHead', 'GeneralizedSAMHead']))
def test_a_step_does_not_wait_and_is_deterministic(scheme, head, on_meta):
    # At 48 × 32 position map and tables are resized. Points and a box of some items, sentences of several lengths.
    model = on_meta(
        backbone=backbone(instruction=INSTRUCTIONS[scheme], with_cp=scheme == 'edit'),
        decode_head=decode_head(type=head, loss_decode=LOSSES, spatial_prompts=True),
        data_preprocessor=dict(type='ReferringDataPreProcessor', size=(48, 32)),
    )
    data = batch()
    data['data_samples'][0].set_metainfo(dict(points=torch.ones(2, 2), point_labels=torch.tensor([1, 0])))
    data['data_samples'][1].set_metainfo(dict(box=torch.tensor([1.0, 1.0, 9.0, 9.0]), scale_factor=(2.0, 2.0)))
    with GPU() as gpu:
        step(model, data)
    assert not gpu.noted
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('frozen', [False, True])
def test_shared_sentences_and_images_are_found_without_waiting(frozen, on_meta):
    model = on_meta(text_encoder=text_encoder(frozen=frozen))
    data = model.data_preprocessor(batch([(32, 32)] * 3, ['cat', 'dog', 'cat']), training=True)
    for sample, number in zip(data['data_samples'], (0, 0, 1)):
        sample.set_metainfo(dict(unique_image_index=number))
    with GPU() as gpu:
        model.eval()(**data, mode='loss')
    # Only the forward pass: it is in evaluation mode, with gradients.
    assert not gpu.noted


@pytest.mark.parametrize(
    'model_type', ['bert', 'roberta', 'deberta', 'deberta-v2', 't5', 'clip_text_model', 'siglip_text_model']
)
@pytest.mark.filterwarnings('ignore::UserWarning')
def test_text_models_do_not_wait_for_their_mask(model_type):
    """MPNet's does, see docs/text_encoders.md."""
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, eos_token_id=1)
    if model_type == 't5':
        sizes = dict(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    with torch.device('meta'):
        model = build_model(make_config(dict(model_type=model_type, vocab_size=40, **sizes))).train()
        ids = torch.ones(2, 6, dtype=torch.long)
    with GPU() as gpu:
        model(input_ids=ids, attention_mask=ids).last_hidden_state.sum().backward()
    assert not gpu.noted & {'copy_, which blocks', '_to_copy, which blocks', 'index by numbers of the host'}


def test_encoder_alone_resizes_deterministically():
    """At another size than that of pre-training, in windows, globally and without text."""
    with torch.device('meta'):
        encoder = MODELS.build(
            dict(type='SAMViT', arch=ARCH, img_size=64, patch_size=8, out_channels=16, window_size=3)
        )
        images = torch.zeros(1, 3, 40, 56)
    with GPU() as gpu:
        encoder(images)[0].sum().backward()
    assert not gpu.noted
