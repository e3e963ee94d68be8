"""PhraseCut: phrases for one or several regions of Visual Genome's images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmseg.registry import DATASETS
from PIL import Image, ImageDraw

from ..errors import InputError
from .columns import is_side
from .instances import checked_sentences, naming, require_file
from .masks import check_points
from .reference_files import load_records
from .referring_dataset import ReferringDataset
from .table import ReferringTable
from .table_builder import TableBuilder

REMEDY = 'docs/test_sets.md says where the files of PhraseCut are'
IMAGE_TYPES = dict(image_id=int, height=int, width=int)
TASK_TYPES = dict(task_id=str, image_id=int, ann_ids=list, Polygons=list, phrase=str, phrase_structure=dict)


@DATASETS.register_module()
class PhraseCutDataset(ReferringDataset):
    """PhraseCut in its original format (Wu et al., CVPR 2020).

    The mask is the union of the polygons of all instances, drawn as by the authors
    (https://github.com/ChenyunWu/PhraseCutDataset): with their outlines, from coordinates without fractions.

    `ref_id` and `sent_id` of an item are the `task_id`, `ann_id` is the tuple of Visual Genome's objects, `category_id`
    the name in the phrase. `kind` says what makes the phrase unique: `name`, `attribute`, `relation` or, if nothing
    does, `verbose`. `img_id` is Visual Genome's; `filter_cfg.evaluation_images` uses COCO's number instead, if the
    image has one.

    Args:
        data_root: Folder of the set, `VGPhraseCut_v0`.
        split: `train`, `val`, `test` or `miniv`. The authors' val is `val_miniv`: both files.
        images_file: Sizes and COCO's numbers of the images; without the authors' downloader it is called
            `image_data_split3000.json`.
        data_prefix: `img_path` is the folder of the images, named by their ids: `2415.jpg`.
        **kwargs: `pipeline`, `test_mode` and the others, as in `ReferringDataset`.

    Raises:
        FileNotFoundError: A file is missing, or the image of an item that is accessed.
        InputError: A file is damaged or in another format.
    """

    def __init__(
        self,
        data_root: str = '',
        split: str = 'test',
        images_file: str = 'image_data_split.json',
        data_prefix: dict = dict(img_path='images/'),
        **kwargs: Any,
    ) -> None:
        self.split, self.images_file = split, images_file
        super().__init__('', data_root, data_prefix, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        self.images_file = self._resolve(self.images_file)

    @property
    def source(self) -> str:
        return ' and '.join(self._files())

    def _files(self) -> list[str]:
        return [self._resolve(f'refer_{split}.json') for split in self.split.split('_')]

    def load_table(self) -> ReferringTable:
        """The table of the split."""
        require_file(self.images_file, 'Images', REMEDY)
        found = {image['image_id']: image for image in load_records(self.images_file, IMAGE_TYPES, 'image')}
        builder, rows = TableBuilder(), dict[int, int]()
        for item, task in self._tasks():
            with naming(item):
                if task['image_id'] not in found:
                    raise InputError(f'is of image {task["image_id"]}, which {self.images_file} does not have')
                row, target = _add_target(builder, rows, found[task['image_id']], task)
            _add_phrase(builder, row, target, task, item)
        with naming(f'{self.source}:'):
            return builder.build(dataset='phrasecut', split=self.split)

    def _tasks(self) -> Iterator[tuple[str, dict]]:
        """The tasks of the files, each with its name for messages."""
        for path in self._files():
            require_file(path, 'Phrases', REMEDY)
            yield from ((f'{path}: task {task["task_id"]}', task) for task in load_records(path, TASK_TYPES, 'task'))


def _add_target(builder: TableBuilder, rows: dict[int, int], image: dict, task: dict) -> tuple[int, int]:
    """The image and the mask of a task in the table; `rows` holds the images that it has already."""
    ids = task['ann_ids']
    if image['image_id'] not in rows:
        rows[image['image_id']] = _add_image(builder, image)
    mask = _draw(task['Polygons'], image['height'], image['width'])
    if not ids or not all(type(one) is int for one in ids):
        raise InputError(f'has the ann_ids {ids!r}: a list of numbers is needed')
    return rows[image['image_id']], builder.add_target(tuple(ids), mask)


def _add_phrase(builder: TableBuilder, row: int, target: int, task: dict, item: str) -> None:
    """The phrase of a task as the one sentence of its reference; `item` names the task in messages."""
    structure = task['phrase_structure']
    kind = structure.get('type')
    with naming(f'{item},'):
        sentence = dict(sent_id=task['task_id'], sent=task['phrase'], kind=kind if isinstance(kind, str) else '')
        sentences = checked_sentences([sentence])
    builder.add_reference(task['task_id'], str(structure.get('name', '')), row, target, sentences)


def _add_image(builder: TableBuilder, image: dict) -> int:
    size, coco_id = (image['height'], image['width']), image.get('coco_id')
    if not all(map(is_side, size)):
        raise InputError(f'is of image {image["image_id"]}, whose height and width are {size}')
    number = coco_id if type(coco_id) is int else 0
    return builder.add_image(image['image_id'], f'{image["image_id"]}.jpg', *size, coco_id=number)


def _draw(instances: list, height: int, width: int) -> np.ndarray:
    """The mask of instances, each a list of polygons; as with the authors, one of a single point does not count."""
    image = Image.new('L', (width, height))
    draw = ImageDraw.Draw(image)
    for polygons in instances:
        if not isinstance(polygons, list):
            raise InputError(f'has an instance that is not a list of polygons but {type(polygons).__name__}')
        for points in polygons:
            if isinstance(points, list) and len(points) < 2:
                continue
            check_points(points, height, width)
            draw.polygon([(int(x), int(y)) for x, y in points], fill=1, outline=1)
    return np.asarray(image) == 1
