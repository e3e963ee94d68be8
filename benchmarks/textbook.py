"""DIT's image encoder in textbook form: the reference implementation of the tests and of encoder.py.

Text and visual tokens are concatenated, whole blocks run on both, attention is materialized and its bias added, and
windows are padded before the projection. The parts are those of `segment_anything.modeling.image_encoder`; the
instruction, which gives each block its text, is the package's own.

Shapes: B pairs, L text tokens, H × W visual tokens, M heads, C channels a head, D = M · C.
"""

from functools import partial

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from dit_sam.compat import import_sam_modeling
from dit_sam.structures import TextFeatures

sam = import_sam_modeling().image_encoder


def attention(
    layer: nn.Module,
    x: Tensor,
    text: Tensor | None = None,
    mask: Tensor | None = None,
    window_size: int = 0,
    keep_text: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Self-attention over [text; visual].

    Args:
        layer: `segment_anything`'s Attention, or one with the same weights and names.
        x: Visual tokens, (B, H, W, D).
        text: Text tokens, (B, L, D).
        mask: True at real text tokens, (B, L).
        window_size: Side of the windows; the text joins each of them. 0 attends globally.
        keep_text: Whether to return text tokens. They attend to the whole image, in windowed blocks too.

    Returns:
        Visual tokens (B, H, W, D), and text tokens (B, L, D) or None.
    """
    count = 0 if text is None else text.shape[1]
    if not window_size:
        out = _attend(layer, _join(text, x), count, mask, x.shape[1:3])
        return out[:, count:].unflatten(1, x.shape[1:3]), out[:, :count] if count else None
    windows, padded = sam.window_partition(x, window_size)
    share = len(windows) // len(x)
    repeated = (None if tokens is None else tokens.repeat_interleave(share, 0) for tokens in (text, mask))
    out = _attend(layer, _join(next(repeated), windows), count, next(repeated), windows.shape[1:3])[:, count:]
    visual = sam.window_unpartition(out.unflatten(1, windows.shape[1:3]), window_size, padded, x.shape[1:3])
    return visual, _attend(layer, _join(text, x), count, mask) if count and keep_text else None


def _join(text: Tensor | None, x: Tensor) -> Tensor:
    return x.flatten(1, 2) if text is None else torch.cat([text, x.flatten(1, 2)], 1)


def _attend(
    layer: nn.Module, tokens: Tensor, count: int, mask: Tensor | None, grid: tuple[int, int] | None = None
) -> Tensor:
    """Attention of tokens (B, L + N, D), the first `count` of which are text, over all real tokens.

    Without a grid only the text attends, and there is no relative position.
    """
    q, k, v = layer.qkv(tokens).unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    if grid is None:
        q = q[:, :, :count]
    logits = (q * layer.scale) @ k.transpose(2, 3)
    if grid is not None:
        logits = logits + F.pad(_position(layer, q[:, :, count:], grid), (count, 0, count, 0))
    if mask is not None:
        real = F.pad(mask, (0, tokens.shape[1] - count), value=True)
        logits = logits.masked_fill(~real[:, None, None], float('-inf'))
    return layer.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


def _position(layer: nn.Module, q: Tensor, grid: tuple[int, int]) -> Tensor:
    """The bias of relative position for each pair of visual tokens, (B, M, H·W, H·W)."""
    q = q.unflatten(2, grid)
    rows = torch.einsum('bmhwc,hkc->bmhwk', q, sam.get_rel_pos(grid[0], grid[0], layer.rel_pos_h))
    columns = torch.einsum('bmhwc,wkc->bmhwk', q, sam.get_rel_pos(grid[1], grid[1], layer.rel_pos_w))
    return (rows[..., None] + columns[..., None, :]).flatten(4).flatten(2, 3)


def run_block(
    block: nn.Module, x: Tensor, text: Tensor | None, mask: Tensor | None, keep_text: bool
) -> tuple[Tensor, Tensor | None]:
    """One of `segment_anything`'s blocks on text and image; arguments and results as in `attention`."""
    normed = block.norm1(_join(text, x))
    count = 0 if text is None else text.shape[1]
    visual, words = attention(
        block.attn,
        normed[:, count:].unflatten(1, x.shape[1:3]),
        normed[:, :count] if count else None,
        mask,
        block.window_size,
        keep_text,
    )
    x, text = x + visual, None if words is None else text + words
    tokens = _join(text, x)
    tokens = tokens + block.mlp(block.norm2(tokens))
    count = 0 if text is None else count
    return tokens[:, count:].unflatten(1, x.shape[1:3]), tokens[:, :count] if count else None


class TextbookEncoder(sam.ImageEncoderViT):
    """`DITViT` in textbook form, with the same names in its state dict.

    Args:
        arch: Sizes as in `SAMViT.ARCHITECTURES`. The other arguments are those of `DITViT`; `out_channels` is not 0.
    """

    def __init__(
        self,
        arch: dict,
        img_size: int = 1024,
        patch_size: int = 16,
        out_channels: int = 256,
        window_size: int = 14,
        windowed: bool = True,
        instruction: dict | None = None,
    ) -> None:
        super().__init__(
            img_size,
            patch_size,
            3,
            arch['embed_dims'],
            arch['depth'],
            arch['num_heads'],
            out_chans=out_channels,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=window_size,
            global_attn_indexes=arch['global_attn_indexes'],
        )
        if not windowed:
            for block in self.blocks:
                block.window_size = 0
        sizes = dict(embed_dims=arch['embed_dims'], depth=arch['depth'])
        self.instruction = None if instruction is None else MODELS.build(dict(instruction, **sizes))

    def forward(self, x: Tensor, text: TextFeatures | None = None) -> Tensor:
        """Feature map (B, out_channels, H / patch, W / patch) of images (B, 3, H, W) under one sentence each."""
        x = self.patch_embed(x)
        position = self.pos_embed.permute(0, 3, 1, 2)
        if position.shape[2:] != x.shape[1:3]:
            position = F.interpolate(position, size=x.shape[1:3], mode='bicubic', align_corners=False)
        x = x + position.permute(0, 2, 3, 1)
        words = previous = mask = None
        keep = self.instruction is not None and self.instruction.keeps_outputs
        if text is not None:
            features, mask = self.instruction.project(text.tokens), text.mask
        for layer, block in enumerate(self.blocks):
            if text is not None:
                words = self.instruction(layer, features, previous if keep else None, x)
            x, previous = run_block(block, x, words, mask, keep)
        return self.neck(x.permute(0, 3, 1, 2))
