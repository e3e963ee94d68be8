"""SAM's image encoder under instruction: the sentence goes in with the image."""
from collections.abc import Iterable

from mmseg.registry import MODELS
from torch import Tensor

from ...errors import InputError
from ...structures import TextFeatures
from .sam_vit import SAMViT


@MODELS.register_module()
class DITViT(SAMViT):
    """`SAMViT` with an instruction plugged in (DIT, section 3).

    It differs from its parent in one place: every block also sees the text tokens that the instruction gives it.
    Without text it is its parent.

    Args:
        instruction: Config of an `Instruction`; `embed_dims` and `depth`, the blocks that run, are filled in. None
            leaves text to the decoder (the paper's default scheme).
        **kwargs: As in `SAMViT`.
    """

    def __init__(self, instruction: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.instruction = None
        if instruction is not None:
            sizes = dict(embed_dims=self.embed_dims, depth=self.running_depth)
            self.instruction = MODELS.build(dict(instruction, **sizes))

    def train(self, mode: bool = True) -> 'DITViT':
        """As in `SAMViT`; the instruction of a frozen encoder still trains."""
        super().train(mode)
        if self.instruction is not None:
            self.instruction.train(mode)
        return self

    def forward(self, x: Tensor, text: TextFeatures | None = None) -> tuple[Tensor, ...]:
        """
        Args:
            x: Images, (B, in_channels, H, W).
            text: The sentence of each image.

        Returns:
            As in `SAMViT`.

        Raises:
            InputError: Batch sizes of images and text differ, or the instruction cannot take text of this size.
        """
        if text is None or self.instruction is None:
            return super().forward(x)
        if len(text.tokens) != len(x):
            raise InputError(f'{len(x)} images with {len(text.tokens)} sentences: give one sentence for each image')
        return self.gather(self.encode_with(self.embed(x), text))

    def encode_with(self, tokens: Tensor, text: TextFeatures) -> Iterable[Tensor]:
        """The visual tokens after each block, (B, H, W, D), with the instruction's text tokens beside them."""
        features, previous = self.instruction.project(text.tokens), None
        for layer in range(self.running_depth):
            tokens, previous = self.run(self.instructed_block, layer, tokens, features, previous, text.mask)
            yield tokens

    def instructed_block(self, layer: int, tokens: Tensor, features: Tensor, previous: Tensor | None,
                         mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """One block and its instruction.

        Args:
            layer: Index of the block.
            tokens: Visual tokens, (B, H, W, D).
            features: Projected text features, (B, L, D).
            previous: See `Instruction.forward`.
            mask: True at real text tokens, (B, L).

        Returns:
            Visual tokens (B, H, W, D), and text tokens (B, L, D) where another block wants them.
        """
        words = self.instruction(layer, features, previous, tokens)
        keep_words = self.instruction.keeps_outputs and layer + 1 < self.running_depth
        return self.blocks[layer](tokens, words, mask, keep_words)
