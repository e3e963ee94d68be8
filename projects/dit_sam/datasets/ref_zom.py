"""Ref-ZOM: sentences that mean no object, one, or many."""

from typing import Any

from mmseg.registry import DATASETS

from .refcoco import RefCOCODataset
from .reference_files import load_zom_refs


@DATASETS.register_module()
class RefZOMDataset(RefCOCODataset):
    """Ref-ZOM in its original format (Hu et al., Beyond One-to-One, ICCV 2023).

    The mask is the union of the objects, empty if there are none. `ann_id` of an item is the tuple of the objects' ids,
    `category_id` that of their categories, as far as the file has them. `kind` is `zero`, `one` or `many`.

    The layout is that of the authors' reader (https://github.com/toggle1995/RIS-DMMI); see `load_zom_refs`.

    Args:
        data_root: Root of the paths below.
        ann_file: COCO instances (`instances.json`).
        refs_file: References (`refs(final).p`, which the release calls `Ref-ZOM(final).p`). No code in it is run.
        split: `train` or `test`.
        data_prefix: `img_path` is the folder of the images, COCO train2014 and val2014 together.
        **kwargs: `keep_outlines` and the others, as in `RefCOCODataset`.

    Raises:
        FileNotFoundError: As in `RefCOCODataset`.
        InputError: As in `RefCOCODataset`, or `refs_file` is not in the format of Ref-ZOM.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = 'ref-zom/instances.json',
        refs_file: str = 'ref-zom/refs(final).p',
        split: str = 'test',
        data_prefix: dict = dict(img_path='trainval2014/'),
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root, ann_file, refs_file, split, data_prefix, **kwargs)

    def _read_refs(self) -> list[dict]:
        return load_zom_refs(self.refs_file)
