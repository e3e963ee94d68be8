"""ReasonSeg: questions and hints whose target has to be inferred."""

import os.path as osp
from glob import escape, glob
from typing import Any

import cv2
import numpy as np
from mmseg.registry import DATASETS

from ..errors import InputError
from .images import image_size
from .instances import checked_sentences, naming
from .masks import check_points
from .reference_files import check_types, load_json
from .referring_dataset import ReferringDataset
from .table import ReferringTable
from .table_builder import TableBuilder

TYPES = dict(text=list, is_sentence=(bool, int), shapes=list)
SHAPE_TYPES = dict(label=str, points=list)


@DATASETS.register_module()
class ReasonSegDataset(ReferringDataset):
    """ReasonSeg in its original format (Lai et al., LISA, CVPR 2024): beside `NAME.jpg` the annotation `NAME.json`.

    `img_id`, `ref_id` and `ann_id` of an item are NAME, `sent_id` counts the texts from 0. `kind` is `long` for
    sentences and `short` for phrases, from `is_sentence`. In testing, only the first text of an image counts, as in
    LISA.

    Polygons are drawn as by LISA (https://github.com/dvlab-research/LISA), with their outlines, the largest first, so
    that a smaller one covers it. The pixels of those labelled "ignore" do not count: they are the item's `ignored`,
    which `LoadReferringMask` marks by 255 and `ReferringIoU` leaves out, as LISA does.

    Args:
        data_root: Folder of the splits.
        split: Folder of images and annotations: `train`, `val` or `test`.
        **kwargs: `pipeline`, `test_mode` and the others, as in `ReferringDataset`.

    Raises:
        FileNotFoundError: The folder has no image.
        InputError: An annotation is missing, or it or its image is damaged or in another format.
    """

    def __init__(self, data_root: str = '', split: str = 'val', **kwargs: Any) -> None:
        super().__init__(split, data_root, **dict(dict(data_prefix=dict(img_path=split)), **kwargs))

    def load_table(self) -> ReferringTable:
        """The table of the folder."""
        paths = sorted(glob(osp.join(escape(self.ann_file), '*.jpg')))
        if not paths:
            raise FileNotFoundError(f'No image of ReasonSeg in {self.ann_file}; docs/test_sets.md says where they are')
        builder = TableBuilder()
        for path in paths:
            name = osp.basename(path)
            stem, file = name.removesuffix('.jpg'), path.removesuffix('.jpg') + '.json'
            annotation = _load(file)
            kind = 'long' if annotation['is_sentence'] else 'short'
            with naming(file):
                height, width = image_size(path)
                labels = _draw(annotation['shapes'], height, width)
            texts = annotation['text'][:1] if self.test_mode else annotation['text']
            first = builder.rows('sentences')
            with naming(f'{file}:'):
                sentences = checked_sentences(
                    [dict(sent_id=first + index, sent=text, kind=kind) for index, text in enumerate(texts)]
                )
            ignored = labels == 255
            target = builder.add_target(stem, labels == 1, ignored=ignored if ignored.any() else b'')
            builder.add_reference(stem, 0, builder.add_image(stem, name, height, width), target, sentences)
        with naming(f'{self.ann_file}:'):
            return builder.build(dataset='reasonseg', split=osp.basename(self.ann_file))


def _load(path: str) -> dict:
    """A checked annotation. Some are not in UTF-8 but, as LISA reads them, in Windows' code page 1252."""
    try:
        try:
            annotation = load_json(path)
        except UnicodeDecodeError:
            annotation = load_json(path, encoding='cp1252')
    except FileNotFoundError as error:
        raise InputError(f'{path} is missing; each image of ReasonSeg needs an annotation') from error
    except ValueError as error:
        raise InputError(f'{path} is not JSON: {error}') from error
    check_types(annotation, TYPES, path)
    for index, shape in enumerate(annotation['shapes']):
        check_types(shape, SHAPE_TYPES, f'{path}: shape {index}')
    return annotation


def _draw(shapes: list, height: int, width: int) -> np.ndarray:
    """The pixels of an annotation, uint8 (height, width): 1 in the target, 255 where they do not count."""
    polygons = []
    for shape in shapes:
        if shape['label'].lower() == 'flag':
            continue
        check_points(shape['points'], height, width)
        points = np.array(shape['points']).astype(np.int32)
        polygons.append((points, 255 if 'ignore' in shape['label'].lower() else 1))
    areas = [int(_fill(np.zeros((height, width), np.uint8), points, 1).sum()) for points, _ in polygons]
    labels = np.zeros((height, width), np.uint8)
    # LISA's order, also of equal areas.
    for index in np.argsort(areas)[::-1].tolist():
        _fill(labels, *polygons[index])
    return labels


def _fill(image: np.ndarray, points: np.ndarray, value: int) -> np.ndarray:
    cv2.polylines(image, [points], True, value, 1)
    return cv2.fillPoly(image, [points], value)
