"""The image encoders that encoder.py compares: ours and its references, with one set of weights."""

from collections.abc import Callable
from functools import partial

import torch
from choices import CASES
from textbook import TextbookEncoder
from torch import Tensor, nn
from transformers import SamVisionConfig, SamVisionModel

from dit_sam.compat import import_sam_modeling
from dit_sam.models import DITViT, SAMViT
from dit_sam.models.weights import HUGGING_FACE_SAM
from dit_sam.structures import TextFeatures

TEXT_DIMS = 768

Encoder = Callable[[Tensor, TextFeatures], Tensor]


def ours(case: str, arch: str, size: int) -> DITViT:
    """Our encoder for images of `size`, with random non-zero weights."""
    kind, windowed = CASES[case]
    instruction = kind and dict(type=kind, text_dims=TEXT_DIMS, dropout=0.0)
    # The references without text support only one image size.
    model = DITViT(instruction, arch=arch, img_size=size if kind is None else 1024, windowed=windowed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not ('norm' in name or name.startswith('neck')):
                nn.init.normal_(weight, std=0.02)
    return model


def references(case: str, arch: str, size: int) -> dict[str, nn.Module]:
    """The references: the textbook's form, or without text the encoders of `segment_anything` and transformers."""
    sizes, (kind, windowed) = SAMViT.ARCHITECTURES[arch], CASES[case]
    if kind is not None:
        instruction = dict(type=kind, text_dims=TEXT_DIMS, dropout=0.0)
        return dict(textbook=TextbookEncoder(sizes, windowed=windowed, instruction=instruction))
    sam = import_sam_modeling().ImageEncoderViT(
        size,
        16,
        3,
        sizes['embed_dims'],
        sizes['depth'],
        sizes['num_heads'],
        use_rel_pos=True,
        window_size=14,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        global_attn_indexes=sizes['global_attn_indexes'],
    )
    config = SamVisionConfig(
        hidden_size=sizes['embed_dims'],
        num_hidden_layers=sizes['depth'],
        num_attention_heads=sizes['num_heads'],
        global_attn_indexes=list(sizes['global_attn_indexes']),
        image_size=size,
        mlp_dim=4 * sizes['embed_dims'],
    )
    return dict(segment_anything=sam, transformers=SamVisionModel(config))


def build(case: str, arch: str, size: int) -> dict[str, nn.Module]:
    """Our encoder as `ours`, and the references, which share its weights."""
    model = ours(case, arch, size)
    models = dict(ours=model, **references(case, arch, size))
    weights = dict(model.named_parameters())
    for name, reference in models.items():
        if name == 'transformers':
            weights = HUGGING_FACE_SAM.to_theirs({f'backbone.{key}': value for key, value in weights.items()})
        reference.load_state_dict(weights, assign=True)
    return models


def features(model: nn.Module, images: Tensor, text: TextFeatures) -> Tensor:
    """The feature map of any of these encoders."""
    output = model(images, text) if hasattr(model, 'instruction') else model(images)
    if isinstance(output, tuple):
        return output[0]
    return output if isinstance(output, Tensor) else output.last_hidden_state


def inputs(size: int, tokens: int, batch: int = 1, device: str = 'cpu') -> tuple[Tensor, TextFeatures]:
    """Images and sentences; the last token of every second sentence is padding, so that the mask matters."""
    mask = torch.ones(batch, tokens, dtype=torch.bool, device=device)
    mask[1::2, 1:][:, -1:] = False
    images = torch.randn(batch, 3, size, size, device=device)
    return images, TextFeatures(torch.randn(batch, tokens, TEXT_DIMS, device=device), mask)
