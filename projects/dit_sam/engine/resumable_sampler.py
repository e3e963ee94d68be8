"""A sampler that can begin inside an epoch."""

from collections.abc import Iterator
from itertools import islice

from mmengine.dataset import DefaultSampler
from mmseg.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ResumableSampler(DefaultSampler):
    """`DefaultSampler` whose next pass may begin inside the epoch, so that a resumed run does not see data twice.

    Attributes:
        start: How many items of this rank the next pass leaves out; each pass sets it back to 0.
    """

    start = 0

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        return islice(super().__iter__(), start, None)
