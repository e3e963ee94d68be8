"""SAM's prompt encoder for batches in which every image has its own points and box."""

import torch
from torch import Tensor

from ...compat import import_sam_modeling
from ...structures import SpatialPrompts

sam = import_sam_modeling()


class PairedPromptEncoder(sam.PromptEncoder):  # type: ignore[name-defined]
    """`segment_anything`'s prompt encoder over ragged batches, for inputs of any size; state-dict names included.

    Points that only fill up the batch are masked as padding, the size of the input is part of the prompts, and
    positions are encoded in float32 even under autocast. SAM encodes a position by a product of matrices, which
    autocast runs in 16 bits: in bfloat16 that moves a cell of a grid of 32 × 32 by 3 % of a cell.
    """

    def forward(self, prompts: SpatialPrompts) -> Tensor:
        """Prompt tokens, (B, N, C), with the decoder's width C."""
        # Half a pixel: to the center of the pixel.
        x, y = (prompts.points + 0.5).unbind(-1)
        code = self._code(x / prompts.size[1], y / prompts.size[0])
        # A row for every label from −1 on. As one table, each of them gets a gradient in every batch.
        table = torch.cat([self.not_a_point_embed.weight, *(part.weight for part in self.point_embeddings)])
        return torch.where(prompts.labels[..., None] < 0, 0.0, code) + table[prompts.labels + 1]

    def grid_code(self, size: tuple[int, int]) -> Tensor:
        """The codes of the centers of the cells of a grid (height, width), (C, height, width)."""
        device = self.pe_layer.positional_encoding_gaussian_matrix.device
        y, x = ((torch.arange(length, device=device, dtype=torch.float32) + 0.5) / length for length in size)
        return self._code(x.expand(size[0], -1), y[:, None].expand(-1, size[1])).permute(2, 0, 1)

    def _code(self, x: Tensor, y: Tensor) -> Tensor:
        """Sines and cosines of random frequencies at positions in [0, 1], (..., C)."""
        frequencies = self.pe_layer.positional_encoding_gaussian_matrix
        of_x, of_y = frequencies.to(torch.promote_types(frequencies.dtype, torch.float32))
        # Elementwise products, which autocast leaves in float32.
        phases = 2 * torch.pi * ((2 * x - 1)[..., None] * of_x + (2 * y - 1)[..., None] * of_y)
        return torch.cat([phases.sin(), phases.cos()], -1)
