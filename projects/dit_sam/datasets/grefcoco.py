"""gRefCOCO: sentences that mean one object, several, or none."""

from typing import Any

from mmseg.registry import DATASETS

from .refcoco import RefCOCODataset
from .reference_files import load_grefs


@DATASETS.register_module()
class GRefCOCODataset(RefCOCODataset):
    """gRefCOCO in its original format (Liu et al., GRES, CVPR 2023).

    A reference has any number of objects. The mask is their union, empty if there are none. `ann_id` of an item is the
    tuple of the objects' ids, `category_id` that of their categories. As in the authors' reader (ReLA), crowds among
    other objects are left out, and so are references without a sentence, of which the file has some.

    Args:
        data_root: Root of the paths below.
        ann_file: COCO instances (`instances.json`).
        refs_file: References (`grefs(unc).json`).
        **kwargs: `split`, `data_prefix`, `keep_outlines` and the others, as in `RefCOCODataset`.

    Raises:
        FileNotFoundError: As in `RefCOCODataset`.
        InputError: As in `RefCOCODataset`, or `refs_file` is not in the format of gRefCOCO.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = 'grefcoco/instances.json',
        refs_file: str = 'grefcoco/grefs(unc).json',
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root, ann_file, refs_file, **kwargs)

    def _read_refs(self) -> list[dict]:
        return load_grefs(self.refs_file)
