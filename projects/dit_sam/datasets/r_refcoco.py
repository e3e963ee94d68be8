"""R-RefCOCO, R-RefCOCO+ and R-RefCOCOg: RefCOCO's references with additional sentences that mean nothing."""

from typing import Any

from mmseg.registry import DATASETS

from .refcoco import RefCOCODataset
from .reference_files import load_robust_refs


@DATASETS.register_module()
class RRefCOCODataset(RefCOCODataset):
    """R-RefCOCO, R-RefCOCO+ or R-RefCOCOg in the original format (Wu et al., Toward Robust RIS, IEEE TIP 2024).

    `kind` of an item is `positive` or `negative`. A negative sentence has an empty mask and `no_target`; `ann_id` and
    `category_id` are tuples, empty for it. A reference of the file becomes two with one `ref_id`, one for each kind, so
    training draws as many negative sentences as positive ones.

    The layout is that of the authors' reader (https://github.com/jianzongwu/robust-ref-seg); see `load_robust_refs`.

    Args:
        data_root: Root of the paths below.
        ann_file: COCO instances (`instances.json`).
        refs_file: References (`refs(unc).p`, for R-RefCOCOg `refs(umd).p`). No code in the pickle is run.
        **kwargs: `split`, `data_prefix`, `keep_outlines` and the others, as in `RefCOCODataset`.

    Raises:
        FileNotFoundError: As in `RefCOCODataset`.
        InputError: As in `RefCOCODataset`.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = 'rrefcoco/instances.json',
        refs_file: str = 'rrefcoco/refs(unc).p',
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root, ann_file, refs_file, **kwargs)

    def _read_refs(self) -> list[dict]:
        return load_robust_refs(self.refs_file)
