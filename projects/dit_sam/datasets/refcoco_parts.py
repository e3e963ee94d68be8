"""RefCOCOm: sentences for objects of RefCOCO and for their parts."""

import os.path as osp
from typing import Any

import numpy as np
from mmengine.fileio import get, join_path
from mmseg.registry import DATASETS

from ..errors import InputError
from ..utils import open_image
from .images import coco_number
from .instances import checked_sentences, naming, require_file
from .reference_files import ID, load_records
from .referring_dataset import ReferringDataset
from .table import ReferringTable
from .table_builder import TableBuilder

REMEDY = 'docs/test_sets.md says where the files of RefCOCOm are'
TYPES = dict(segment_id=ID, img_name=str, sentences=list)
PARTS, ALL = '_part_only.json', '_object_part.json'


@DATASETS.register_module()
class RefCOCOPartsDataset(ReferringDataset):
    """RefCOCOm (Wang et al., Unveiling Parts Beyond Objects, CVPR 2024). RefCOCO-M, with new masks, is another set.

    A mask is an image, 255 inside; all are read when the data set is opened. `ref_id` and `ann_id` of an item are the
    `segment_id`. `kind` is `part` or `object`: in a file `*_object_part.json`, parts are those that the file
    `*_part_only.json` beside it has too; without that file there is no `kind`.

    The layout is as far as known from other code: CRIS's (https://github.com/DerrickWang005/CRIS.pytorch), which its
    authors name, and M²SA's (https://github.com/jdg900/MMR), which reads it. The original files were not at hand.

    Args:
        data_root: Root of the paths below.
        ann_file: References: `val`, `testA` or `testB` with `_part_only.json` or `_object_part.json`.
        data_prefix: `img_path` is the folder of the images, those of the set or COCO train2014, `seg_map_path` that of
            the masks.
        **kwargs: `pipeline`, `test_mode` and the others, as in `ReferringDataset`.

    Raises:
        FileNotFoundError: `ann_file` is missing, or the image of an item that is accessed.
        InputError: `ann_file` or a mask is missing, damaged or in another format.
    """

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = 'annotations/val_part_only.json',
        data_prefix: dict = dict(img_path='images/', seg_map_path='masks/'),
        **kwargs: Any,
    ) -> None:
        super().__init__(ann_file, data_root, data_prefix, **kwargs)

    def load_table(self) -> ReferringTable:
        """The table of the file, with the masks."""
        require_file(self.ann_file, 'References', REMEDY)
        builder, parts = TableBuilder(), self._parts()
        images: dict[str, tuple[int, tuple[int, int]]] = {}
        for ref in load_records(self.ann_file, TYPES, 'item'):
            segment, name = ref['segment_id'], ref['img_name']
            kind = '' if parts is None else 'part' if segment in parts else 'object'
            with naming(f'{self.ann_file}: segment {segment}'):
                mask = self._mask(segment)
                if name not in images:
                    number = coco_number(name)
                    image_id = name if number is None else str(number)
                    images[name] = (builder.add_image(image_id, name, *mask.shape), mask.shape)
                image, shape = images[name]
                if shape != mask.shape:
                    raise InputError(f'has a mask of {mask.shape}, another one of {name} has {shape} (height, width)')
                first = builder.rows('sentences')
                texts = [_sentence(one, first + index, kind) for index, one in enumerate(ref['sentences'])]
            with naming(f'{self.ann_file}: segment {segment},'):
                sentences = checked_sentences(texts)
            target = builder.add_target(segment, mask)
            builder.add_reference(segment, 0, image, target, sentences)
        with naming(f'{self.ann_file}:'):
            return builder.build()

    def _parts(self) -> set | None:
        """The segments that are parts; None if that is not known."""
        path = self.ann_file.replace(ALL, PARTS) if self.ann_file.endswith(ALL) else self.ann_file
        if not path.endswith(PARTS) or not osp.isfile(path):
            return None
        return {ref['segment_id'] for ref in load_records(path, TYPES, 'item')}

    def _mask(self, segment: int | str) -> np.ndarray:
        path = join_path(self.data_prefix['seg_map_path'], f'{segment}.png')
        try:
            with open_image(get(path)) as image:
                pixels = np.asarray(image.convert('L'))
        except FileNotFoundError as error:
            raise InputError(f'has no mask: {path} is missing') from error
        except Exception as error:  # a damaged file may raise nearly anything
            raise InputError(f'has the mask {path}, which cannot be read: {error}') from error
        mask = pixels == 255
        if pixels.any() and not mask.any():
            raise InputError(f'has the mask {path} with the highest value {pixels.max()}: 255 inside is needed')
        return mask


def _sentence(sentence: Any, number: int, kind: str) -> dict:
    if not isinstance(sentence, dict) or 'sent' not in sentence:
        raise InputError(f'has the sentence {sentence!r} without the key "sent"')
    return dict(sent_id=sentence.get('sent_id', number), sent=sentence['sent'], kind=kind)
