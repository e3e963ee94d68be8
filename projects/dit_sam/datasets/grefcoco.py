"""gRefCOCO: sentences that mean one object, several, or none."""

from typing import Any

from mmseg.registry import DATASETS

from .grefs import load_grefs
from .refcoco import RefCOCODataset


@DATASETS.register_module()
class GRefCOCODataset(RefCOCODataset):
    """gRefCOCO in its original form, ``instances.json`` and ``grefs(unc).json`` (Liu et al., GRES, CVPR 2023).

    It differs from :class:`RefCOCODataset` in that a reference has any number of objects: the mask is their union, and
    empty where there are none. ``ann_id`` of an item is the tuple of the objects' ids, ``category_id`` that of their
    categories. As in the authors' own reader (ReLA), crowds among other objects are left out, and references without a
    sentence, which the file has, are passed over.

    Args:
        data_root (str): Root of the paths below.
        ann_file (str): COCO instances (``instances.json``).
        refs_file (str): References (``grefs(unc).json``).
        **kwargs: As in :class:`RefCOCODataset`.

    Raises:
        FileNotFoundError: As in :class:`RefCOCODataset`.
        InputError: As in :class:`RefCOCODataset`, and when ``refs_file`` is not in the format of gRefCOCO.
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
