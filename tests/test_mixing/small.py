"""Configs of full size made small, and batches for them."""

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from test_docs import blocks
from tiny import text_encoder

ROOT = Path(__file__).parents[2]
CHANNELS = {
    'channels',
    'in_channels',
    'out_channels',
    'embed_dims',
    'embed_dim',
    'feat_channels',
    'num_feats',
    'feedforward_channels',
}
# Small values for all other settings that cost time.
SMALL = dict(
    num_groups=2,
    num_queries=5,
    max_per_img=5,
    num_layers=1,
    num_points=64,
    stacked_convs=1,
    crop_size=(64, 64),
    stride=(48, 48),
)


def page_configs() -> dict[str, str]:
    """The configs on docs/mixing.md that have their own model."""
    return {name: code for name, code in blocks('mixing.md').items() if '_base_' in code and 'model' in code}


def shrink(value, key: str = ''):
    """A config with channels divided by 32 and heads by 4."""
    if isinstance(value, dict):
        return ConfigDict({name: shrink(part, name) for name, part in value.items()})
    if isinstance(value, (list, tuple)) and key not in SMALL:
        return [shrink(part, key) for part in value]
    if key in CHANNELS and isinstance(value, int) and value >= 64:
        return value // 32
    if key == 'num_heads':
        return value // 4
    if key in SMALL and not (key == 'num_points' and value < 64):
        return SMALL[key]
    return value


def shrink_backbone(backbone: ConfigDict) -> ConfigDict:
    """SAM's ViT of any size, with as many blocks as output maps."""
    width = dict(base=24, large=32)[backbone.arch]
    maps = len(backbone.get('out_indices', (-1,)))
    arch = dict(embed_dims=width, depth=maps, num_heads=width // 8, global_attn_indexes=(maps - 1,))
    sizes = dict(
        arch=arch,
        img_size=64,
        window_size=3,
        out_channels=backbone.get('out_channels', 256) // 32,
        out_indices=tuple(range(maps)),
    )
    small = ConfigDict(dict(backbone, **sizes))
    small.pop('init_cfg', None)
    small['frozen_stages'] = min(small.get('frozen_stages', -1), 1)
    if small.get('instruction'):
        small.instruction.text_dims = 16
        small.text_encoder = dict(text_encoder(frozen=True, max_length=24), _scope_='mmseg')
    return small


def small_model(cfg: Config) -> ConfigDict:
    """The model of a config with SAM's ViT, of one or two blocks and 8 to 32 channels, for images of 64 × 64."""
    backbone = cfg.model.pop('backbone')
    model = shrink(cfg.model)
    model.backbone = shrink_backbone(backbone)
    model.data_preprocessor = dict(cfg.model.data_preprocessor)
    if 'size' in model.data_preprocessor:
        model.data_preprocessor.size = (64, 64)
    return model


def moved_parts(model: torch.nn.Module, step: Callable) -> set[str]:
    """Names of the parts in which weights differ after a step."""
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    step()
    return {name.split('.')[0] for name, new in model.named_parameters() if not torch.equal(new, before[name])}
