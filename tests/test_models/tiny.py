"""Small parts to build models from, and the comparison of numbers used by these tests."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
import transformers
from mmengine.structures import PixelData
from mmengine.utils import digit_version
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

VOCABULARY = (
    '[PAD] [UNK] [CLS] [SEP] [MASK] the a left right small big red blue cat dog box cafe on of ##s ##ish un '
    "##known , . - ' ! ? 2 1 猫"
).split()
ARCH = dict(embed_dims=24, depth=3, num_heads=3, global_attn_indexes=(1,))
BEFORE_TRANSFORMERS_5 = digit_version(transformers.__version__) < digit_version('5.0')
needs_transformers_5 = pytest.mark.skipif(
    BEFORE_TRANSFORMERS_5, reason='compares with models and tokenizers of transformers 5'
)


def bert_tokenizer(**kwargs) -> transformers.BertTokenizer:
    """transformers' tokenizer for `VOCABULARY`; its constructor is new in transformers 5."""
    if BEFORE_TRANSFORMERS_5:
        pytest.skip('BertTokenizer(vocab=...) needs transformers 5')
    return transformers.BertTokenizer(vocab={token: i for i, token in enumerate(VOCABULARY)}, **kwargs)


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Add noise to every parameter, so that none is zero or one, as tables and biases are at the start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5, what: str = '') -> None:
    """‖actual − expected‖ ≤ tolerance · ‖expected‖, where an expected zero counts as a number of about 0.1."""
    assert actual.shape == expected.shape, what
    difference = (actual.double() - expected.double()).norm().item()
    assert difference <= tolerance * (expected.double().norm().item() + 0.1), f'{what} differs by {difference}'


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradients by name; zeros if the backward pass made none."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in module.named_parameters()
    }


def assert_same_gradients(
    actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-5
) -> None:
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(actual[name], gradient, tolerance, name)


def text_encoder(**kwargs) -> dict:
    """Config of a BERT with 16 channels."""
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    sizes.update(model_type='bert', max_position_embeddings=24, vocab_size=len(VOCABULARY))
    return dict(dict(type='HuggingFaceTextEncoder', model=sizes, tokenizer=VOCABULARY, max_length=8), **kwargs)


def backbone(**kwargs) -> dict:
    """Config of an L-DIT encoder: 3 blocks, 24 channels, 4 × 4 tokens at 32², windows of 3."""
    instruction = dict(type='LayerWiseInstruction', text_dims=16)
    sizes = dict(arch=ARCH, img_size=32, patch_size=8, out_channels=16, window_size=3, instruction=instruction)
    return dict(dict(type='DITViT', **sizes), **kwargs)


def decode_head(**kwargs) -> dict:
    """Config of SAM's mask decoder with 16 channels."""
    sizes = dict(in_channels=16, text_dims=16, num_heads=2, mlp_dim=32, iou_head_hidden_dim=16)
    return dict(dict(type='SAMHead', **sizes), **kwargs)


def segmentor(seed: int | None = 0, **parts) -> nn.Module:
    """A `ReferringSegmentor`; parts may be replaced by keyword. Without a seed it is as built, zeros and all."""
    default = dict(
        type='ReferringSegmentor',
        text_encoder=text_encoder(),
        backbone=backbone(),
        decode_head=decode_head(),
        data_preprocessor=dict(type='ReferringDataPreProcessor', size=(32, 32)),
    )
    model = MODELS.build(dict(default, **parts))
    return model if seed is None else randomize(model, seed)


def sample(
    size: tuple[int, int], text: str | None = 'the red box', ori_shape: tuple | None = None, seed: int = 0
) -> SegDataSample:
    """A data sample as `PackReferringInputs` makes it, with a random mask of `size`."""
    meta = dict(img_shape=size, ori_shape=ori_shape or size)
    if text is not None:
        meta['text'] = text
    mask = np.random.default_rng(seed).integers(0, 2, (1, *size))
    return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=torch.from_numpy(mask)))


def batch(
    sizes: Sequence[tuple[int, int]] = ((32, 32), (24, 32)), texts: Sequence[str] = ('the red box', 'cat')
) -> dict:
    """Images and data samples as a data loader collates them."""
    images = [
        torch.from_numpy(np.random.default_rng(i).integers(0, 256, (3, *size), dtype=np.uint8))
        for i, size in enumerate(sizes)
    ]
    return dict(
        inputs=images, data_samples=[sample(size, text, seed=i) for i, (size, text) in enumerate(zip(sizes, texts))]
    )
