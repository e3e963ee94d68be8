"""SAM's image encoder as an mmseg backbone."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...compat import import_sam_modeling
from ...errors import InputError
from ..layers import DerivedCache, InstructedBlock, LayerNorm2d, PointwiseConv, is_cacheable, resize, sampled_values
from ..lora import add_lora, lora_names
from ..weights import load_sam_weights, pretrained_init_cfg


@MODELS.register_module()
class SAMViT(BaseModule):
    """SAM's ViT: pre-norm blocks with windows and decomposed relative position, and a neck of two convolutions.

    With the same weights and `windowed=True` it equals `segment_anything.modeling.ImageEncoderViT`, whose state-dict
    names it keeps. It takes images of any size: the position map is resized bicubically, the relative-position tables
    linearly, and images are padded to whole patches.

    Args:
        arch: 'tiny', 'base', 'large', 'huge', or a dict of `embed_dims`, `depth`, `num_heads`, `global_attn_indexes`
            (blocks that attend globally in windowed mode).
        img_size: Side of the pretraining images, which sets the size of the position tables.
        patch_size: Side of a patch.
        in_channels: Channels of the image.
        out_channels: Channels after the neck; 0 leaves the neck out and gives `embed_dims` channels.
        out_indices: Blocks whose tokens are returned, through the neck where there is one; −1 is the last. Blocks after
            the last index are skipped; they stay, frozen, for SAM's weights.
        mlp_ratio: Hidden width of the MLPs over `embed_dims`.
        window_size: Side of the windows, in tokens.
        windowed: Whether the other blocks attend in windows, as SAM does. The released DIT weights need False.
        frozen: Whether the encoder's own weights are frozen; it then stays in evaluation mode. An instruction still
            trains.
        with_cp: Whether activations, an instruction's too, are recomputed in the backward pass to save memory.
        frozen_stages: As in mmpretrain's ViT: 0 freezes patches and position, n also the first n blocks; −1 nothing.
        lora: Keywords of `peft.LoraConfig`, such as dict(r=8, lora_alpha=16, target_modules=['qkv', 'proj']), with the
            names of linear layers in the blocks. Low-rank weights then train in place of the encoder's own.
        init_cfg: As in mmengine.

    Raises:
        InputError: `arch`, `out_indices`, `frozen_stages` or `lora` is invalid.
    """

    ARCHITECTURES = {
        'tiny': dict(embed_dims=192, depth=6, num_heads=3, global_attn_indexes=(2, 5)),
        'base': dict(embed_dims=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
        'large': dict(embed_dims=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
        'huge': dict(embed_dims=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
    }

    EXTRA_PREFIXES: ClassVar[tuple[str, ...]] = ('instruction.',)
    """Prefixes of weights that SAM does not have."""

    @torch.inference_mode(False)  # as in ReferringSegmentor
    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int = 1024,
        patch_size: int = 16,
        in_channels: int = 3,
        out_channels: int = 256,
        out_indices: Sequence[int] = (-1,),
        mlp_ratio: float = 4.0,
        window_size: int = 14,
        windowed: bool = True,
        frozen: bool = False,
        with_cp: bool = False,
        frozen_stages: int = -1,
        lora: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = self._sizes(arch)
        self.embed_dims, self.depth = sizes['embed_dims'], sizes['depth']
        self.patch_size, self.out_channels, self.with_cp, self.frozen = patch_size, out_channels, with_cp, frozen
        self.out_indices = self._out_indices(out_indices)
        self.running_depth = self.out_indices[-1] + 1
        grid = img_size // patch_size
        sam = import_sam_modeling()
        self.patch_embed = sam.image_encoder.PatchEmbed(
            (patch_size,) * 2, (patch_size,) * 2, (0, 0), in_channels, self.embed_dims
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, self.embed_dims))
        self._position = DerivedCache(_position_map)
        self._table_values: list[float] = []
        # The tables keep SAM's sizes in both modes, so that its weights load: 2·14 − 1 rows in windowed blocks.
        windows = [0 if i in sizes['global_attn_indexes'] else window_size for i in range(self.depth)]
        self.blocks = nn.ModuleList(
            InstructedBlock(self.embed_dims, sizes['num_heads'], window or grid, mlp_ratio, window if windowed else 0)
            for window in windows
        )
        self.neck = (
            nn.Sequential(
                PointwiseConv(self.embed_dims, out_channels),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            if out_channels
            else nn.Identity()
        )
        if lora is not None:
            self.requires_grad_(False)
            add_lora(self.blocks, lora, 'backbone.lora')
        # DistributedDataParallel waits for the gradient of every weight that requires one.
        self.blocks[self.running_depth :].requires_grad_(False)
        self._freeze_stages(frozen_stages)
        if frozen:
            self.requires_grad_(False)

    def _freeze_stages(self, stages: int) -> None:
        if not -1 <= stages <= self.depth:
            raise InputError(
                f'backbone.frozen_stages={stages} must be -1 (nothing) to {self.depth}, the number of blocks'
            )
        if stages >= 0:
            self.pos_embed.requires_grad_(False)
            self.patch_embed.requires_grad_(False)
            # Blocks have neither dropout nor running statistics, so their mode does not matter.
            self.blocks[:stages].requires_grad_(False)

    def _sizes(self, arch: str | dict) -> dict:
        """Sizes of an architecture by name or as given."""
        if isinstance(arch, str):
            if arch not in self.ARCHITECTURES:
                raise InputError(f'backbone.arch={arch!r} must be one of {sorted(self.ARCHITECTURES)}, or a dict')
            return self.ARCHITECTURES[arch]
        keys = self.ARCHITECTURES['base'].keys()
        if arch.keys() != keys:
            missing, unknown = sorted(keys - arch.keys()), sorted(arch.keys() - keys)
            raise InputError(f'backbone.arch must have the keys {list(keys)}; missing: {missing}, unknown: {unknown}')
        beyond = [index for index in arch['global_attn_indexes'] if not 0 <= index < arch['depth']]
        if beyond:
            raise InputError(f'backbone.arch.global_attn_indexes has {beyond}; the blocks are 0 to {arch["depth"] - 1}')
        return arch

    def _out_indices(self, indices: Sequence[int]) -> list[int]:
        """Indices counted from the front, in the order of the blocks."""
        beyond = [index for index in indices if not -self.depth <= index < self.depth]
        if beyond:
            raise InputError(f'backbone.out_indices has {beyond}; the blocks are 0 to {self.depth - 1}')
        blocks = sorted({index % self.depth for index in indices})
        if not blocks or len(blocks) < len(indices):
            raise InputError(f'backbone.out_indices={tuple(indices)} must name at least one block, and none twice')
        return blocks

    def train(self, mode: bool = True) -> 'SAMViT':
        """As in `nn.Module`; a frozen encoder stays in evaluation mode."""
        self._position.clear()
        return super().train(mode and not self.frozen)

    def init_weights(self) -> None:
        """As in ViTDet: truncated normals of 0.02 in linear layers and the position map; then `init_cfg`.

        With `init_cfg=dict(type='Pretrained', checkpoint=...)` the checkpoint is SAM's own file. What SAM does not have
        (instruction, text encoder) has its own `init_weights` and `init_cfg`.
        """
        if self.is_init:
            return
        trunc_normal_(self.pos_embed, std=0.02)
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear) and 'lora_' not in name:
                trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        pretrained = pretrained_init_cfg(self.init_cfg)
        if pretrained is not None:
            parts = ('',) if self.out_channels else ('pos_embed', 'patch_embed.', 'blocks.')
            load_sam_weights(
                self,
                pretrained['checkpoint'],
                {f'image_encoder.{part}': part for part in parts},
                extra_prefixes=(*self.EXTRA_PREFIXES, *lora_names(self)),
            )
            for name, part in self.named_children():
                if f'{name}.' in self.EXTRA_PREFIXES:
                    cast(BaseModule, part).init_weights()
            self._is_init = True
        else:
            super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            x: Images, (B, in_channels, H, W).

        Returns:
            One map for every entry of `out_indices`, (B, out_channels or embed_dims, ⌈H / patch⌉,
            ⌈W / patch⌉).
        """
        return self.output_maps(self.encode(self.embed(x)))

    def embed(self, x: Tensor) -> Tensor:
        """Visual tokens of images with their position, (B, ⌈H / patch⌉, ⌈W / patch⌉, D), before any text."""
        self._clear_stale_tables()
        pad_h, pad_w = -x.shape[2] % self.patch_size, -x.shape[3] % self.patch_size
        tokens = self.patch_embed(F.pad(x, (0, pad_w, 0, pad_h)) if pad_h or pad_w else x)
        position: Tensor = self.pos_embed
        if position.shape[1:3] != tokens.shape[1:3]:
            position = self._position(position, *tokens.shape[1:3])
        # The convolution returns patches as (B, D, H, W) in memory, which would slow down what follows.
        return (tokens + position).contiguous()

    def _clear_stale_tables(self) -> None:
        """Clear the cached tables if weights have changed since, see `sampled_values`."""
        attentions = [cast(InstructedBlock, block).attn for block in self.blocks[: self.running_depth]]
        tables = [self.pos_embed, *(table for attn in attentions for table in (attn.rel_pos_h, attn.rel_pos_w))]
        if not all(map(is_cacheable, tables)) or self.pos_embed.is_meta:
            return
        if self.pos_embed.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        found = sampled_values(tables)
        if found != self._table_values:
            self._table_values = found
            self._position.clear()
            for attn in attentions:
                attn.clear_tables()

    def encode(self, tokens: Tensor, end: int | None = None) -> Iterable[Tensor]:
        """The visual tokens after each block before `end`, by default after all that run, (B, H, W, D)."""
        for block in self.blocks[: self.running_depth if end is None else end]:
            tokens, _ = self.run_block(block, tokens)
            yield tokens

    def run_block(self, block: Callable, *args: Any) -> tuple[Tensor, Tensor | None]:
        """Run one block, checkpointed if `with_cp` is set, even in the evaluation mode of a frozen encoder."""
        if self.with_cp and torch.is_grad_enabled():
            return torch.utils.checkpoint.checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def output_maps(self, tokens_of_blocks: Iterable[Tensor], first: int = 0) -> tuple[Tensor, ...]:
        """The maps of `out_indices` from the tokens after block `first` and the following ones.

        They are contiguous as those of other backbones.
        """
        return tuple(
            self.neck(tokens.permute(0, 3, 1, 2)).contiguous()
            for i, tokens in enumerate(tokens_of_blocks, first)
            if i in self.out_indices
        )


def _position_map(position: Tensor, height: int, width: int) -> Tensor:
    """A position map (1, h, w, D) at another size."""
    resized = resize(position.permute(0, 3, 1, 2), (height, width), 'bicubic', align_corners=False)
    return resized.permute(0, 2, 3, 1).to(position.dtype)
