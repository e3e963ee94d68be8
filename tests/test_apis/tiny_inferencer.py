"""A tiny model of random weights, and pictures for it."""

from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from dit_sam.apis import ReferringInferencer

CONFIG = str(Path(__file__).parents[2] / 'configs' / 'dit_sam' / 'ldit_vit-t_shapes.py')


def tiny_config() -> Config:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({'model.text_encoder.model.num_hidden_layers': 1, 'model.decode_head.depth': 1})
    cfg.model.backbone.arch = dict(embed_dims=32, depth=2, num_heads=2, global_attn_indexes=(1,))
    return cfg


def save_random_weights(path, seed: int = 1, cfg: Config | None = None) -> dict:
    """Weights of a tiny model whose masks are neither empty nor full; the state dict."""
    torch.manual_seed(seed)
    model = ReferringInferencer(cfg or tiny_config(), device='cpu').model
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    save_file(model.state_dict(), path)
    return model.state_dict()


def picture(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """A random BGR picture of coarse blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)


def masks_of(result: dict) -> list:
    return [prediction['mask'] for prediction in result['predictions']]


def assert_same(first: dict, second: dict) -> None:
    assert len(first['predictions']) == len(second['predictions'])
    for one, other in zip(masks_of(first), masks_of(second)):
        np.testing.assert_array_equal(one, other)
