"""What travels between the text encoder and whoever wants text."""
from dataclasses import dataclass

from torch import Tensor


@dataclass
class TextFeatures:
    """The sentences of a batch, encoded.

    Attributes:
        tokens: Features of every token, (B, L, D_t).
        mask: True where a token is real, False where it is padding, (B, L), bool.
    """

    tokens: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.tokens.dim() != 3 or self.mask.shape != self.tokens.shape[:2]:
            raise ValueError(f'TextFeatures wants tokens (B, L, D_t) and a mask (B, L), '
                             f'got {tuple(self.tokens.shape)} and {tuple(self.mask.shape)}')
