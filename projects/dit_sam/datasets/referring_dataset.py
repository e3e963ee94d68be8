"""Base class of the referring data sets, and the data set of prepared files."""

import os.path as osp
import reprlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms.utils import cache_random_params
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.fileio import get, join_path
from mmengine.registry import FUNCTIONS
from mmengine.utils import is_abs
from mmseg.registry import DATASETS
from PIL import UnidentifiedImageError

from ..errors import InputError, first_line, log_warning
from ..utils import decode_image
from .held_out import evaluation_images, without_held_out
from .image_stage import LastImage
from .images import find_image
from .pipeline_check import check_steps, doubt_about_masks
from .table import ReferringTable

# What mmcv, OpenCV and Pillow raise for files that are missing, damaged or no images.
_UNREADABLE = (OSError, AssertionError, UnidentifiedImageError, cv2.error)


@DATASETS.register_module()
class ReferringDataset(BaseDataset):
    """References to objects in pictures, from a file that `tools/dataset_converters/refcoco.py` wrote.

    Such a file holds one split and opens at once. Data sets with another format are subclasses that override
    `load_table`.

    In training an item is one reference, and `np.random` draws one of its sentences at each visit. If its image cannot
    be read, the error is logged and another item takes its place. With `test_mode=True` an item is one sentence, in
    the order of the file, and an unreadable image is an error. Several references to one annotation are all kept.

    With `sentences_per_image=N` an item of the training is an image with up to N of its sentences, drawn from those of
    all its references without repetition: a dict of lists, `inputs` and `data_samples`, for the data loader's
    `collate_fn=dict(type='flatten_collate')`. The image is decoded once and augmented with the same random numbers for
    all of them, and the model shares what does not depend on text.

    An item holds `img_path`, `img_id`, `ref_id`, `ann_id`, `sent_id`, `category_id`, `text`, `height` and `width` of
    the annotated image in pixels, `segmentation` (a compressed RLE of that size), `no_target` (whether the annotation
    says that the sentence means nothing) and, if the file has them, the `kind` of the sentence and `ignored`, an RLE of
    the pixels that do not count. If a reference can have any number of objects (gRefCOCO), `ann_id` and `category_id`
    are tuples.

    Args:
        ann_file: The file, such as `refcoco_unc_train.safetensors`.
        data_root: Root of the paths.
        data_prefix: `img_path` is the folder of the images, COCO train2014 or train2017.
        filter_cfg: `evaluation_images` is a file or folder, or a list of them. Training leaves out references to images
            that are in a split other than train there, see `evaluation_images`.
        sentences_per_image: Up to how many sentences an item of the training has; None makes an item of each reference.
        **kwargs: `pipeline`, `test_mode`, `indices`, `max_refetch` and the other arguments of
            `mmengine.dataset.BaseDataset`. `serialize_data` has no effect: workers share the table.

    Attributes:
        max_unreadable: Share of the visited items that may be unreadable, beyond a first one in every worker.

    Raises:
        FileNotFoundError: A file is missing, or the image of an item that is accessed.
        InputError: A file is damaged, `filter_cfg` leaves nothing, too many images cannot be read, the mask or the
            sentence would not follow the image through the pipeline (`check_steps`), or, with `sentences_per_image`,
            the pipeline changes an image differently for each sentence.
    """

    METAINFO = dict(classes=('background', 'referent'), palette=[[0, 0, 0], [220, 20, 60]])
    max_unreadable = 0.001

    def __init__(
        self,
        ann_file: str = '',
        data_root: str = '',
        data_prefix: dict = dict(img_path='train2014/'),
        filter_cfg: dict | None = None,
        sentences_per_image: int | None = None,
        **kwargs: Any,
    ) -> None:
        if sentences_per_image is not None and (sentences_per_image < 1 or kwargs.get('test_mode')):
            raise InputError(
                f'sentences_per_image={sentences_per_image!r} must be a number from 1 on, for training only: leave it '
                'out with test_mode=True, where ImageBatchSampler puts the sentences of an image together'
            )
        self.sentences_per_image = sentences_per_image
        unknown = set(filter_cfg or {}) - {'evaluation_images'}
        if unknown:
            raise InputError(
                f'filter_cfg has the unknown key {sorted(unknown)[0]!r}: the only key is evaluation_images'
            )
        self._visited, self._unreadable = 0, 0
        kwargs['serialize_data'] = False
        super().__init__(
            ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, filter_cfg=filter_cfg, **kwargs
        )
        source = f'pipeline of {type(self).__name__}'
        check_steps(self.pipeline.transforms, self.test_mode, source)
        if not self.test_mode and (doubt := doubt_about_masks(self.pipeline.transforms)):
            log_warning(f'{source}: {doubt}')
        self._last_image = LastImage(self.pipeline)

    @property
    def source(self) -> str:
        """The file that messages name."""
        return self.ann_file

    def load_table(self) -> ReferringTable:
        """The table of this data set; the method that data sets with other formats override."""
        if not osp.isfile(self.ann_file):
            raise FileNotFoundError(
                f'Prepared data not found: {self.ann_file or "ann_file is empty"}. '
                '`python tools/dataset_converters/refcoco.py SRC --out DST` writes it; see '
                'docs/data.md'
            )
        return ReferringTable.open(self.ann_file)

    def load_data_list(self) -> np.ndarray:
        """The rows of the table that are items: references, or sentences in test mode."""
        self.table = self.load_table()
        return np.arange(self.table.rows('sentences' if self.test_mode else 'references'))

    def filter_data(self) -> np.ndarray:
        """The rows that `filter_cfg` leaves in training."""
        sources, rows = (self.filter_cfg or {}).get('evaluation_images'), self.data_list
        sources = [sources] if isinstance(sources, str) else sources
        if sources and not self.test_mode:
            held_out = evaluation_images([self._resolve(source) for source in sources])
            rows = rows[without_held_out(self.source, self.table, held_out)]
            if not len(rows):
                raise InputError(
                    f'{self.source}: filter_cfg.evaluation_images={list(sources)} leaves nothing to train on'
                )
        return rows if self.sentences_per_image is None else self._group_by_image(rows)

    def _group_by_image(self, rows: np.ndarray) -> np.ndarray:
        """The first reference of each image; notes all references in the order of their images."""
        images = self.table.columns['references.image'][rows]
        order = np.argsort(images, kind='stable')
        self._references, self._images = rows[order], images[order]
        return rows[np.unique(images, return_index=True)[1]]

    def _get_unserialized_subset(self, indices: Any) -> Any:
        try:
            return super()._get_unserialized_subset(indices)
        except IndexError as error:
            raise InputError(
                f'{self.source}: indices={reprlib.repr(indices)} reach beyond the {len(self.data_list)} items'
            ) from error

    def get_data_info(self, idx: int) -> dict:
        """The item `idx`, with a randomly drawn sentence of its reference in training."""
        if not self._fully_initialized:
            self.full_init()
        row = int(self.data_list[idx])
        if self.test_mode:
            reference, sentence = self.table.reference_of(row), row
        else:
            reference = row
            first, end = self.table.sentence_rows(row)
            sentence = first + (np.random.randint(end - first) if end - first > 1 else 0)
        return self.info(reference, sentence, idx)

    def info(self, reference: int, sentence: int, idx: int) -> dict:
        """The item for a row of the table's references and one of its sentences."""
        try:
            item, text = self.table.reference(reference), self.table.sentence(sentence)
        except InputError as error:
            raise InputError(f'{self.source}: {error}') from error
        return dict(
            img_path=join_path(self.data_prefix['img_path'], item.pop('file_name')),
            **item,
            **text,
            seg_fields=[],
            sample_idx=idx if idx >= 0 else len(self) + idx,
        )

    def prepare_data(self, idx: int) -> Any:
        """The item `idx` after the pipeline, which reads an image once for consecutive sentences in testing."""
        if self.sentences_per_image is not None:
            return self._prepare_image(self._infos_of_image(idx))
        item = self.get_data_info(idx)
        item['img_path'] = find_image(item['img_path'])
        return self._last_image(item) if self.test_mode else self.pipeline(item)

    def _infos_of_image(self, idx: int) -> list[dict]:
        """Up to `sentences_per_image` randomly drawn sentences of an image."""
        if not self._fully_initialized:
            self.full_init()
        image = self.table.columns['references.image'][self.data_list[idx]]
        start, end = np.searchsorted(self._images, [image, image + 1])
        ranges = [(row, range(*self.table.sentence_rows(row))) for row in self._references[start:end].tolist()]
        pairs = [(reference, sentence) for reference, sentences in ranges for sentence in sentences]
        drawn = np.random.permutation(len(pairs))[: self.sentences_per_image]
        return [self.info(reference, sentence, idx) for reference, sentence in (pairs[i] for i in drawn)]

    def _prepare_image(self, items: list[dict]) -> dict[str, list] | None:
        """The items of one image after the pipeline, with the same random numbers for each.

        None if a transform has dropped one; mmengine then draws another image.
        """
        stage = self._last_image.stage
        image = stage.image(dict(img_path=find_image(items[0]['img_path'])))
        with cache_random_params(stage.rest.transforms):
            packed = [stage.item(image, item) for item in items]
        if any(each is None for each in packed):
            return None
        first = packed[0]['inputs']
        for other in packed[1:]:
            if not torch.equal(other['inputs'], first):
                raise InputError(
                    'sentences_per_image: a transform of the pipeline changed the image differently for each sentence; '
                    "its random numbers must come from methods with mmcv's decorator cache_randomness"
                )
            other['data_samples'].set_metainfo(dict(shares_image=True))
        return dict(inputs=[first] * len(packed), data_samples=[each['data_samples'] for each in packed])

    def __getitem__(self, idx: int) -> dict:
        attempt = 0
        while True:
            # A stride, because neighboring items often share an image; a prime that does not divide their number.
            stride = 1009 if len(self) % 1009 else 1013
            index = (idx + stride * attempt) % len(self) if not self.test_mode else idx
            self._visited += 1
            try:
                return super().__getitem__(index)
            except (InputError, FileNotFoundError):
                raise
            except _UNREADABLE as error:
                self._report_unreadable(index, error)
            attempt += 1

    def _report_unreadable(self, index: int, error: Exception) -> None:
        """Log that another item takes the place of one; raise InputError in testing, or when there are too many."""
        path = self.get_data_info(index)['img_path']
        reason = _reason(error, path)
        if self.test_mode:
            raise InputError(f'{path} could not be read: {reason}; repair it, or remove its references') from error
        self._unreadable += 1
        if self._unreadable > 1 + self.max_unreadable * self._visited:
            raise InputError(
                f'{self._unreadable} of {self._visited} items could not be read, the last one {path} '
                f'({reason}): more than the {self.max_unreadable:.1%} that may be replaced; repair or '
                'remove the files, or check data_prefix.img_path'
            )
        log_warning(f'{path} could not be read and another item takes its place: {reason}', of_one_rank=True)

    def image_numbers(self) -> np.ndarray:
        """A number for each item, equal for items on the same image."""
        rows = np.asarray(self.data_list, dtype=np.int64)
        if self.test_mode:
            rows = np.searchsorted(self.table.columns['references.sentences'], rows, side='right')
        return self.table.columns['references.image'][rows]

    def _resolve(self, path: str) -> str:
        return join_path(self.data_root, path) if self.data_root and not is_abs(path) else path


@FUNCTIONS.register_module()
def flatten_collate(batch: Sequence[dict]) -> dict:
    """Collate items that hold the lists of several sentences, as `sentences_per_image` makes them.

    Raises:
        InputError: An item holds a single sentence.
    """
    if not all(isinstance(values, list) for item in batch for values in item.values()):
        raise InputError(
            "collate_fn=dict(type='flatten_collate') is for items with several sentences: set sentences_per_image in "
            'every data set, or leave collate_fn out'
        )
    items = [dict(zip(item, values)) for item in batch for values in zip(*item.values())]
    return pseudo_collate(items)


def _reason(error: Exception, path: str) -> str:
    # mmcv's and OpenCV's own messages are failed assertions, meant for programmers.
    try:
        decode_image(get(find_image(path)))
    except ValueError as problem:
        return f'it {problem}'
    except OSError:
        pass
    return first_line(error)
