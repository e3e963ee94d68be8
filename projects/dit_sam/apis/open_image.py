"""An image that is kept open: read, resized and encoded once, for any number of sentences."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..datasets.image_stage import LoadedImage

if TYPE_CHECKING:
    from .referring_inferencer import ReferringInferencer


@dataclass(eq=False)
class OpenImage:
    """An image that `ReferringInferencer.open` has opened.

    It takes the place of the image in calls of the inferencer, and can be called with sentences itself. The results are
    those of a call with the image, bit by bit. Open it again after changing the model's weights, type or device.

        >>> image = inferencer.open('photo.jpg')
        >>> image(['the man', 'his dog'])
        >>> image('the one on the left', points=[(120, 80)])

    Attributes:
        inferencer: The inferencer whose model the image was opened for.
        name: Its path, or what it is called in messages.
        loaded: What the loader read: `img`, BGR, and more.
        resized: The result of the part of the test pipeline that depends on the image alone.
        trunk: The part of the model's work that does not depend on text, on the model's device; None if there is none.
    """

    inferencer: 'ReferringInferencer'
    name: str
    loaded: dict
    resized: LoadedImage
    trunk: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and tensors."""
        return sum(_arrays([self.loaded, self.resized.results, self.resized.inputs, self.trunk]).values())

    def __call__(self, sentences: Any, **kwargs: Any) -> dict[str, list]:
        """Segment the image by sentences; keywords as in `ReferringInferencer.__call__`."""
        return self.inferencer(self, sentences, **kwargs)


def _arrays(values: Any) -> dict[int, int]:
    """Bytes by the identity of the arrays and tensors in nested dicts, lists and tuples, each counted once."""
    if isinstance(values, (np.ndarray, Tensor)):
        return {id(values): values.nbytes}
    parts = values.values() if isinstance(values, dict) else values if isinstance(values, (list, tuple)) else ()
    return {key: size for part in parts for key, size in _arrays(part).items()}
