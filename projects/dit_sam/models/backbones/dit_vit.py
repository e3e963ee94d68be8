"""SAM's image encoder with text in its blocks."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...errors import InputError, log_warning
from ...structures import TextFeatures
from ..instructions import Instruction
from .sam_vit import SAMViT

Trunk: TypeAlias = tuple[Tensor, tuple[Tensor, ...]]


@MODELS.register_module()
class DITViT(SAMViT):
    """`SAMViT` with text tokens in every block, from a pluggable instruction (DIT, section 3).

    Block i maps text and visual tokens, `[T'_i; V_{i+1}] = block_i([T_i; V_i])`, where the instruction makes `T_i` from
    the text features `F_t`, `T'_{i−1}` and `V_i` (`instructed_block`). Without text it equals its parent, and with an
    instruction says so once, as in a model of mmseg, which passes no text to its backbone.

    Args:
        instruction: Config of an `Instruction`; `embed_dims` and `depth`, the number of blocks that run, are filled in.
            None leaves text to the decoder (the paper's default scheme).
        **kwargs: As in `SAMViT`.
    """

    @torch.inference_mode(False)  # as in ReferringSegmentor
    def __init__(self, instruction: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.instruction: Instruction | None = None
        self._warned = False
        if instruction is not None:
            sizes = dict(embed_dims=self.embed_dims, depth=self.running_depth)
            # With the scope: mmdet's models use mmdet's registry, which does not have ours.
            self.instruction = MODELS.build(dict(dict(_scope_='mmseg'), **instruction, **sizes))

    @property
    def takes_text(self) -> bool:
        """Whether text changes its output."""
        return self.instruction is not None

    def train(self, mode: bool = True) -> 'DITViT':
        """As in `SAMViT`; the instruction of a frozen encoder still trains."""
        super().train(mode)
        if self.instruction is not None:
            self.instruction.train(mode)
        return self

    def forward(
        self, x: Tensor, text: TextFeatures | None = None, image_index: Tensor | None = None, trunk: Trunk | None = None
    ) -> tuple[Tensor, ...]:
        """
        Args:
            x: Images, (B, in_channels, H, W).
            text: The sentences, S of them.
            image_index: For each sentence the index of its image, (S,), int64; None means S = B, in order.
            trunk: The result of `trunk` for these images; None computes it.

        Returns:
            As in `SAMViT`, one map for each sentence. What comes before the first block with text is computed once for
            each image.

        Raises:
            InputError: The numbers of images, sentences and indices differ, or the instruction cannot take text of this
                size.
        """
        if text is not None:
            self._check_numbers(x.shape[0], text.tokens.shape[0], image_index)
        # Tools count on meta tensors what the encoder costs without text.
        if text is None and self.takes_text and not (self._warned or x.is_meta):
            self._warned = True
            log_warning(
                f"{type(self).__name__} has an instruction and gets no text, so it runs as SAM's encoder, whatever "
                'the sentences say: ReferringSegmentor gives it text, StandaloneDITViT has its own. With several GPUs '
                'set backbone.instruction=None, because its weights get no gradient (said once)'
            )
        if text is None and self.instruction is not None:
            features = super().forward(x)
            return features if image_index is None else tuple(maps[image_index] for maps in features)
        tokens, maps = self.trunk(x) if trunk is None else trunk
        if image_index is not None:
            tokens, maps = tokens[image_index], tuple(each[image_index] for each in maps)
        if text is None or self.instruction is None:
            return maps
        return (*maps, *self.output_maps(self.encode_with_text(tokens, text), self.instruction.start))

    def trunk(self, x: Tensor) -> Trunk:
        """What does not depend on text, for images (B, in_channels, H, W): `forward` takes it in place of the images.

        Returns:
            The tokens that enter the first block with text, (B, H, W, D), and the maps of the blocks before it. Without
            an instruction these are all maps.
        """
        start = self.running_depth if self.instruction is None else self.instruction.start
        tokens = self.embed(x)
        maps: list[Tensor] = []
        for layer, after in enumerate(self.encode(tokens, start)):
            tokens = after
            maps += self.output_maps([after], layer)
        return tokens, tuple(maps)

    @staticmethod
    def _check_numbers(images: int, sentences: int, image_index: Tensor | None) -> None:
        if image_index is None and images != sentences:
            raise InputError(
                f'{images} images with {sentences} sentences: give one sentence for each image, or '
                'image_index, the image of each sentence'
            )
        if image_index is not None and image_index.shape != (sentences,):
            raise InputError(
                f'image_index has shape {tuple(image_index.shape)}, and there are {sentences} sentences: '
                'give one index for each sentence'
            )

    def encode_with_text(self, tokens: Tensor, text: TextFeatures) -> Iterable[Tensor]:
        """The visual tokens after each block with text, (B, H, W, D)."""
        assert self.instruction is not None
        features, previous = self.instruction.project(text.tokens), None
        for layer in range(self.instruction.start, self.running_depth):
            tokens, previous = self.run_block(self.instructed_block, layer, tokens, features, previous, text.mask)
            yield tokens

    def instructed_block(
        self, layer: int, tokens: Tensor, features: Tensor, previous: Tensor | None, mask: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Run one block on its visual tokens and the text tokens that the instruction makes for it.

        Arguments as in `Instruction.forward`, with `mask` (B, L) True at real text tokens. Returns visual tokens
        (B, H, W, D), and text tokens (B, L, D) if the next block needs them.
        """
        assert self.instruction is not None
        more = dict(mask=mask) if self.instruction.takes_mask else {}
        text = self.instruction(layer, features, previous, tokens, **more)
        if text is not None and text.shape != features.shape:
            raise InputError(
                f'{type(self.instruction).__name__} gives block {layer} text tokens of shape {tuple(text.shape)}, and '
                f'the features have {tuple(features.shape)}: it must return one token of the same width for each, or '
                'None for no text in this block'
            )
        keep_text = self.instruction.keeps_outputs and layer + 1 < self.running_depth
        return self.blocks[layer](tokens, text, mask, keep_text)
