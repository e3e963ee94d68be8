"""ViT-B as segment_anything and transformers build it, converted by the tools: the same image embedding and masks."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from converters import assert_equal, convert, randomize
from mmseg.registry import MODELS
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SamConfig, SamModel

from dit_sam.compat import import_sam_modeling
from dit_sam.structures import SpatialPrompts, TextFeatures

POINTS, LABELS = torch.tensor([[[300.0, 420.0], [710.0, 95.5]]]), torch.tensor([[1, 0]])
BOX = torch.tensor([[120.0, 80.0, 900.5, 640.0]])
WORDS = 5


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(actual: Tensor, expected: Tensor, what: str) -> None:
    """To 1e-4 of the largest value."""
    assert actual.shape == expected.shape, what
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max(), what


def embed(model: Callable[[Tensor], Any], encoder: nn.Module, image: Tensor) -> Any:
    """The model's image embedding of 256 x 256 pixels, a sixteenth of the work of SAM's 1024 x 1024.

    The encoder keeps the first 16 x 16 of its 64 x 64 positions, and resizes the relative ones of its global blocks.
    """
    whole = encoder.pos_embed
    encoder.pos_embed = nn.Parameter(whole[:, :16, :16])
    found = model(image)
    encoder.pos_embed = whole
    return found


def build_segment_anything() -> nn.Module:
    import_sam_modeling()
    return importlib.import_module('segment_anything.build_sam').build_sam_vit_b()


def open_transformers(folder: Path) -> SamModel:
    """`SamModel` with the weights of a folder, none missing or left over, and SAM's settings."""
    # By default the decoder's norms divide by √(variance + 1e-6), SAM's by √(variance + 1e-5).
    SamConfig(mask_decoder_config=dict(layer_norm_eps=1e-5)).save_pretrained(folder)
    sam, found = SamModel.from_pretrained(folder, output_loading_info=True)
    assert not found['missing_keys'] and not found['unexpected_keys']
    return sam.eval()


def masks_of_segment_anything(sam: nn.Module, image: Tensor, sparse: Tensor) -> dict[str, Tensor]:
    """Low-resolution masks for points, a box, both, and tokens passed as a sparse prompt."""
    given = dict(points=((POINTS, LABELS), None), box=(None, BOX), both=((POINTS, LABELS), BOX))
    prompts = {key: sam.prompt_encoder(points, boxes, None) for key, (points, boxes) in given.items()}
    prompts['text'] = sparse, sam.prompt_encoder(None, None, None)[1].expand(1, -1, 64, 64)
    pe = sam.prompt_encoder.get_dense_pe()
    return {key: sam.mask_decoder(image, pe, *prompt, multimask_output=False)[0] for key, prompt in prompts.items()}


def masks_of_transformers(sam: SamModel, image: Tensor, sparse: Tensor) -> dict[str, Tensor]:
    """The same by `SamModel`."""
    points, box = dict(input_points=POINTS[:, None], input_labels=LABELS[:, None]), dict(input_boxes=BOX[:, None])
    masks = {
        key: sam(image_embeddings=image, multimask_output=False, **prompt).pred_masks[:, 0]
        for key, prompt in dict(points=points, box=box, both={**points, **box}).items()
    }
    dense = sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand(-1, -1, 64, 64)
    masks['text'] = sam.mask_decoder(
        image, sam.get_image_wide_positional_embeddings(), sparse[:, None], dense, multimask_output=False
    )[0][:, 0]
    return masks


def masks_of_ours(head: nn.Module, image: Tensor, words: Tensor) -> dict[str, Tensor]:
    """The same by `SAMHead`, whose text is `words` before their projection."""

    def place(points=None, labels=None, box=None) -> SpatialPrompts:
        return SpatialPrompts.collate([points], [labels], [box], (1024, 1024))

    given = dict(points=place(POINTS[0], LABELS[0]), box=place(box=BOX[0]), both=place(POINTS[0], LABELS[0], BOX[0]))
    masks = {key: head((image,), prompts=prompts) for key, prompts in given.items()}
    masks['text'] = head((image,), TextFeatures(words, torch.ones(1, WORDS, dtype=torch.bool)))
    return masks


def load_ours(checkpoint: Path) -> tuple[nn.Module, nn.Module]:
    """Image encoder and head of a default config with that checkpoint as `init_cfg`."""
    parts = [
        MODELS.build(dict(type=name, init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)))).eval()
        for name in ('SAMViT', 'SAMHead')
    ]
    for part in parts:
        part.init_weights()
    return parts


def assert_agree(masks: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert masks.keys() == theirs.keys()
    for key, mask in masks.items():
        assert_close(mask, theirs[key], key)


@torch.no_grad()
def test_vit_b_from_segment_anything_to_transformers_and_back(folder, capsys):
    sam, image = randomize(build_segment_anything()), noise(1, 3, 256, 256, seed=1)
    torch.save(sam.state_dict(), folder / 'sam_vit_b.pth')
    embedding, words = noise(1, 256, 64, 64, seed=3), noise(1, WORDS, 768, seed=2)
    encoded = embed(sam.image_encoder, sam.image_encoder, image)

    convert('sam2mmseg', folder / 'sam_vit_b.pth', folder / 'ours.safetensors')
    assert 'ours.safetensors: ViT-B, 93,735,728 weights in 314 tensors, 357.' in capsys.readouterr().out
    backbone, head = load_ours(folder / 'ours.safetensors')
    assert_close(embed(backbone, backbone, image)[0], encoded, 'image embedding')
    sparse = head.text_proj(words)
    theirs = masks_of_segment_anything(sam, embedding, sparse)
    assert_agree(masks_of_ours(head, embedding, words), theirs)

    convert('mmseg2sam', folder / 'ours.safetensors', folder / 'back.pth', '--arch', 'base')
    assert_equal(torch.load(folder / 'back.pth', weights_only=True), sam.state_dict())
    # SAM's own file loads like the converted one.
    direct = [part.state_dict() for part in load_ours(folder / 'sam_vit_b.pth')]
    ours = load_file(folder / 'ours.safetensors')
    assert_equal(
        {f'backbone.{name}': value for name, value in direct[0].items()}
        | {f'decode_head.{name}': value for name, value in direct[1].items() if 'text_proj' not in name},
        ours,
    )

    hugging = folder / 'huggingface'
    convert('mmseg2sam', folder / 'ours.safetensors', hugging / 'model.safetensors', '--layout', 'huggingface')
    capsys.readouterr()
    transformed = open_transformers(hugging)
    transformed.vision_encoder.patch_embed.image_size = (256, 256)
    found = embed(transformed.get_image_embeddings, transformed.vision_encoder, image)
    assert_close(found, encoded, 'image embedding of transformers')
    assert_agree(masks_of_transformers(transformed, embedding, sparse), theirs)
    transformed.save_pretrained(folder / 'saved')
    convert('sam2mmseg', folder / 'saved', folder / 'again.safetensors')
    assert 'again.safetensors: ViT-B, 93,735,728 weights in 314 tensors, 357.' in capsys.readouterr().out
    assert_equal(load_file(folder / 'again.safetensors'), ours)
