"""RefCOCO, RefCOCO+, RefCOCOg and RefCLEF in the original format of REFER."""

from collections import Counter
from typing import Any

from mmseg.registry import DATASETS

from ..errors import InputError
from .instances import Instances, make_table, require_file
from .reference_files import load_refs, split_names
from .referring_dataset import ReferringDataset
from .table import ReferringTable


@DATASETS.register_module()
class RefCOCODataset(ReferringDataset):
    """References to objects in COCO photographs: RefCOCO, RefCOCO+, RefCOCOg, or any set in their format.

    It reads the original files. Prepared ones, read by `ReferringDataset`, give the same items in a fraction of
    the time and memory.

    Args:
        data_root: Root of the paths below.
        ann_file: COCO instances (`instances.json`).
        refs_file: References (`refs(unc).p`, `refs(umd).p`, `refs(google).p`). No code in the pickle is run.
        split: `train`, `val`, `testA`, `testB` or `test`, if `refs_file` has it.
        data_prefix: `img_path` is the folder of the images, COCO train2014 or train2017.
        keep_outlines: Add `outlines` to the items, a list of their objects' segmentations as annotated, for options of
            `LoadReferringMask`.
        **kwargs: `pipeline`, `test_mode`, `filter_cfg` and the others, as in `ReferringDataset`.

    Raises:
        FileNotFoundError: `ann_file` or `refs_file` is missing, or the image of an item that is accessed.
        InputError: The split does not exist, or a reference is blank, incomplete or without annotation or image.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = 'refcoco/instances.json',
        refs_file: str = 'refcoco/refs(unc).p',
        split: str = 'train',
        data_prefix: dict = dict(img_path='train2014/'),
        keep_outlines: bool = False,
        **kwargs: Any,
    ) -> None:
        self.refs_file = refs_file
        self.split = split
        self.keep_outlines = keep_outlines
        super().__init__(ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        self.refs_file = self._resolve(self.refs_file)

    @property
    def source(self) -> str:
        return f'{self.refs_file} ({self.split})'

    def load_table(self) -> ReferringTable:
        """The table of the split."""
        require_file(self.refs_file, 'References')
        refs = select_split(self._read_refs(), self.split, self.refs_file)
        return make_table(refs, self.refs_file, Instances.open(self.ann_file), self.keep_outlines, split=self.split)

    def _read_refs(self) -> list[dict]:
        """All references of `refs_file`."""
        return load_refs(self.refs_file)


def splits_of(refs: list[dict]) -> Counter:
    """The number of references of each split; that of "testAB" counts in testA and in testB, see `split_names`."""
    return Counter(split for ref in refs for split in split_names(ref['split']))


def select_split(refs: list[dict], split: str, refs_file: str) -> list[dict]:
    """The references of a split, in the order of the file; InputError if there are none."""
    selected = [ref for ref in refs if split in split_names(ref['split'])]
    if not selected:
        known = ', '.join(f'{name} ({count} references)' for name, count in splits_of(refs).items()) or 'no reference'
        raise InputError(f'{refs_file} has no split "{split}"; it has {known}')
    return selected
