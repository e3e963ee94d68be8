"""How a data set makes its table: row by row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .columns import COCO_ID, GROUPS, KEYS, OPTIONAL, make_column
from .masks import encode_mask
from .table import ReferringTable


class TableBuilder:
    """Rows that become a `ReferringTable`, for `load_table` of a data set. Each `add` method returns its row number.

    Ids are whole numbers or texts. An error of `build` names the column, such as `sentences.text`.
    """

    def __init__(self) -> None:
        self._columns: dict[str, list] = {f'{group}.{name}': [] for group, names in GROUPS.items() for name in names}
        # Heights and widths of targets given as arrays.
        self._shapes: dict[int, tuple[int, ...]] = {}
        # Whether ids are another collection's than COCO's.
        self._has_other_ids = False

    def rows(self, group: str) -> int:
        return len(self._columns[KEYS[group]])

    def add_image(
        self, image_id: int | str, file_name: str, height: int, width: int, coco_id: int | None = None
    ) -> int:
        """Add an image. `coco_id` is its number in COCO, for data sets with other ids; 0 if it is not of COCO."""
        self._has_other_ids |= coco_id is not None
        return self._add('images', image_id, file_name, height, width, coco_id or 0)

    def add_target(
        self,
        ann_id: int | str | tuple[int, ...],
        mask: np.ndarray | bytes,
        outlines: str = '',
        ignored: np.ndarray | bytes = b'',
    ) -> int:
        """Add what is segmented.

        Args:
            ann_id: Id of the object, or the ids of several.
            mask: An array (height, width), nonzero inside, or what `encode_segmentation` returns for polygons and RLEs.
            outlines: The annotation as JSON, for data sets with `keep_outlines`.
            ignored: Pixels that count neither as object nor as background, in the same form as the mask.
        """
        masks = [encode_mask(one) if isinstance(one, np.ndarray) else one for one in (mask, ignored)]
        row = self._add('targets', ann_id, masks[0], outlines, masks[1])
        if isinstance(mask, np.ndarray):
            self._shapes[row] = mask.shape[:2]
        return row

    def add_reference(
        self,
        ref_id: int | str,
        category_id: int | str | tuple[int, ...],
        image: int,
        target: int,
        sentences: Sequence[dict],
    ) -> int:
        """Add a reference to a target in an image, both by row, with its sentences.

        Args:
            ref_id: Id of the reference.
            category_id: Id of the object's category, or the ids of several; 0 if there are none.
            image: What `add_image` returned.
            target: What `add_target` returned.
            sentences: Dicts with `sent_id`, `text` and optionally `kind` and `raw`.

        Raises:
            InputError: There is no sentence, one has other keys, or the mask has another size than the image.
        """
        size = tuple(self._columns[f'images.{side}'][image] for side in ('height', 'width'))
        if self._shapes.get(target, size) != size:
            raise InputError(f'reference {ref_id} has a mask of {self._shapes[target]} for an image of {size}')
        if not sentences:
            raise InputError(f'reference {ref_id} has no sentence')
        for sentence in sentences:
            if not isinstance(sentence, dict) or not {'sent_id', 'text'} <= sentence.keys():
                raise InputError(
                    f'reference {ref_id}: a sentence is a dict with "sent_id" and "text", got {sentence!r}'
                )
            raw = sentence.get('raw', '')
            self._add(
                'sentences',
                sentence['sent_id'],
                sentence['text'],
                sentence.get('kind', ''),
                '' if raw == sentence['text'] else raw,
            )
        return self._add('references', ref_id, category_id, image, target, self.rows('sentences'))

    def build(self, **header: Any) -> ReferringTable:
        """The table; InputError if there is no reference, or the ids of one column have several types."""
        if not self.rows('references'):
            raise InputError('the data have no reference: name other files or another split')
        columns = {
            name: make_column(name, entries)
            for name, entries in self._columns.items()
            if name not in OPTIONAL or any(entries) or (name == COCO_ID and self._has_other_ids)
        }
        return ReferringTable(columns, header)

    def _add(self, group: str, *entries: Any) -> int:
        for name, entry in zip(GROUPS[group], entries):
            self._columns[f'{group}.{name}'].append(entry)
        return self.rows(group) - 1
