"""SAM's prompt encoder for batches in which every image has its own points and box."""
import torch
from torch import Tensor

from ...compat import import_sam_modeling
from ...structures import SpatialPrompts


class PairedPromptEncoder(import_sam_modeling().PromptEncoder):
    """`segment_anything`'s prompt encoder over ragged batches, for inputs of any size; state-dict names included.

    What differs: points beyond those of an image are marked as padding and not attended to, and the size of the input
    comes with the prompts.
    """

    def forward(self, prompts: SpatialPrompts) -> Tensor:
        """The tokens of the prompts, (B, N, C), C being the decoder's width."""
        # Half a pixel: to the middle of the pixel.
        code = self.pe_layer.forward_with_coords(prompts.points + 0.5, prompts.size)
        # One row for every label from −1; a table, so that each of them gets a gradient whatever the batch holds.
        table = torch.cat([self.not_a_point_embed.weight, *(part.weight for part in self.point_embeddings)])
        return torch.where(prompts.labels[..., None] < 0, 0., code) + table[prompts.labels + 1]
