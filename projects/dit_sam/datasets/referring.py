"""Items of a referring data set, whatever file it comes from."""

import os.path as osp
import reprlib
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import join_path
from mmseg.registry import DATASETS

from ..errors import InputError
from .held_out import evaluation_images, log_dropped, not_held_out
from .image_stage import LastImage
from .images import find_image
from .table import ReferringTable
from .training_items import TrainingItems


@DATASETS.register_module()
class ReferringDataset(TrainingItems, BaseDataset):
    """References to objects in pictures, from a file that ``tools/dataset_converters/refcoco.py`` wrote.

    Such a file holds one split and opens at once. It is also the parent of the data sets that read other files: they
    say how the table is loaded.

    In training an item is one reference, and its sentence is drawn anew by ``np.random`` at each visit. With
    ``test_mode=True`` an item is one sentence, in the order of the file. Several references to one annotation are all
    kept.

    An item holds ``img_path``, ``img_id``, ``ref_id``, ``ann_id``, ``sent_id``, ``category_id``, ``text``, ``height``
    and ``width`` of the annotated image in pixels, ``segmentation`` (a compressed RLE of that size), ``no_target``
    (whether the annotation says that nothing is meant) and, where the file names one, the ``kind`` of the sentence.
    Where a reference has any number of objects (gRefCOCO), ``ann_id`` and ``category_id`` are tuples.

    Args:
        ann_file (str): The file, as ``refcoco_unc_train.safetensors``.
        data_root (str): Root of the paths.
        data_prefix (dict): ``img_path`` is the folder of the images, COCO train2014 or train2017.
        filter_cfg (dict, optional): ``evaluation_images``, a list of files or folders: in training, references to
            pictures that are in a split of theirs other than train are left out, see :func:`evaluation_images`.
        **kwargs: ``pipeline``, ``test_mode``, ``indices``, ``max_refetch`` and the other arguments of
            :class:`mmengine.dataset.BaseDataset`. ``serialize_data`` changes nothing: the table is shared with workers.

    Raises:
        FileNotFoundError: When a file is missing, or the image of an item that is asked for.
        InputError: When a file is damaged, or ``filter_cfg`` leaves nothing.
    """

    METAINFO = dict(classes=('background', 'referent'), palette=[[0, 0, 0], [220, 20, 60]])

    def __init__(
        self,
        ann_file: str = '',
        data_root: str = '',
        data_prefix: dict = dict(img_path='train2014/'),
        filter_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = set(filter_cfg or {}) - {'evaluation_images'}
        if unknown:
            raise InputError(
                f'filter_cfg has the unknown key {sorted(unknown)[0]!r}: "evaluation_images" is the one that there is'
            )
        kwargs['serialize_data'] = False
        super().__init__(
            ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, filter_cfg=filter_cfg, **kwargs
        )
        self._last_image = LastImage(self.pipeline)

    @property
    def source(self) -> str:
        """The file that messages name."""
        return self.ann_file

    def load_table(self) -> ReferringTable:
        """The table of this data set; what other files need to differ in."""
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
        """Leave out of training what ``filter_cfg`` says."""
        sources = (self.filter_cfg or {}).get('evaluation_images')
        if self.test_mode or not sources:
            return self.data_list
        held_out = evaluation_images([self._resolve(source) for source in sources])
        kept = not_held_out(self.source, self.table, held_out)
        log_dropped(self.source, self.table, kept)
        if not kept.any():
            raise InputError(f'{self.source}: filter_cfg.evaluation_images={list(sources)} leaves nothing to train on')
        return self.data_list[kept]

    def _get_unserialized_subset(self, indices: Any) -> Any:
        try:
            return super()._get_unserialized_subset(indices)
        except IndexError as error:
            raise InputError(
                f'{self.source}: indices={reprlib.repr(indices)} reach beyond the {len(self.data_list)} items'
            ) from error

    def get_data_info(self, idx: int) -> dict:
        """The item ``idx`` with a sentence of its reference, drawn where there are several."""
        if not self._fully_initialized:
            self.full_init()
        row = int(self.data_list[idx])
        if self.test_mode:
            reference, sentence = self.table.reference_of(row), row
        else:
            reference = row
            first, end = self.table.sentences_of(row)
            sentence = first + (np.random.randint(end - first) if end - first > 1 else 0)
        try:
            item, said = self.table.reference(reference), self.table.sentence(sentence)
        except InputError as error:
            raise InputError(f'{self.source}: {error}') from error
        return dict(
            img_path=join_path(self.data_prefix['img_path'], item.pop('file_name')),
            **item,
            **said,
            seg_fields=[],
            sample_idx=idx if idx >= 0 else len(self) + idx,
        )

    def prepare_data(self, idx: int) -> Any:
        """The item ``idx`` after the pipeline, which reads an image once for all sentences of it that follow on."""
        item = self.get_data_info(idx)
        item['img_path'] = find_image(item['img_path'])
        return self._last_image(item) if self.test_mode else self.pipeline(item)

    def image_numbers(self) -> np.ndarray:
        """For each item a number that it shares with the items on the same image, and with no others."""
        rows = np.asarray(self.data_list, dtype=np.int64)
        if self.test_mode:
            rows = np.searchsorted(self.table.columns['references.sentences'], rows, side='right')
        return self.table.columns['references.image'][rows]

    def _resolve(self, path: str) -> str:
        return join_path(self.data_root, path) if self.data_root and not osp.isabs(path) else path
