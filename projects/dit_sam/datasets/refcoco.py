"""RefCOCO, RefCOCO+ and RefCOCOg in the form in which REFER distributes them."""
import json
import os.path as osp
import pickle
from collections import Counter
from typing import Any, Dict, List, Tuple, Union

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.fileio import exists, join_path
from mmengine.utils import is_abs
from mmseg.registry import DATASETS

from ..errors import InputError
from .safe_pickle import load_refs

REMEDY = ('`python tools/dataset_converters/shapes.py --out data/shapes` makes the embedded data; for RefCOCO see '
          '"Training on RefCOCO" in README.md')


@DATASETS.register_module()
class RefCOCODataset(BaseDataset):
    """References to objects in COCO photographs: RefCOCO, RefCOCO+, RefCOCOg, or any set in their format.

    In training an item is one reference, and its sentence is drawn anew by ``np.random`` at each visit. With
    ``test_mode=True`` an item is one sentence, in the order of the file. Several references to one annotation are all
    kept.

    An item holds ``img_path``, ``img_id``, ``ref_id``, ``ann_id``, ``sent_id``, ``category_id``, ``text``, ``height``
    and ``width`` of the annotated image in pixels, ``segmentation`` (COCO polygons or RLE) and, where the file names
    one, the ``kind`` of the sentence.

    The masks lie once per annotation in a table of bytes that data-loading workers share, not once per sentence.

    Args:
        data_root (str): Root of the paths below.
        ann_file (str): COCO instances (``instances.json``).
        refs_file (str): References (``refs(unc).p``, ``refs(umd).p``, ``refs(google).p``), never plainly unpickled.
        split (str): ``train``, ``val``, ``testA``, ``testB`` or ``test``, as far as ``refs_file`` has them.
        data_prefix (dict): ``img_path`` is the folder of the images, COCO train2014 or train2017.
        **kwargs: ``pipeline``, ``test_mode``, ``indices``, ``max_refetch`` and the other arguments of
            :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: When ``ann_file`` or ``refs_file`` is missing, or the image of an item that is asked for.
        InputError: When the split does not exist, or a reference is blank, incomplete or without annotation or image.
    """

    METAINFO = dict(classes=('background', 'referent'), palette=[[0, 0, 0], [220, 20, 60]])

    def __init__(self,
                 data_root: str = '',
                 ann_file: str = 'refcoco/instances.json',
                 refs_file: str = 'refcoco/refs(unc).p',
                 split: str = 'train',
                 data_prefix: dict = dict(img_path='train2014/'),
                 **kwargs) -> None:
        self.refs_file = refs_file
        self.split = split
        super().__init__(ann_file=ann_file, data_root=data_root, data_prefix=data_prefix, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.data_root and not is_abs(self.refs_file):
            self.refs_file = join_path(self.data_root, self.refs_file)

    def load_data_list(self) -> List[dict]:
        """One dict a reference, or a sentence in test mode; ``segmentation`` is its row in the table of masks."""
        refs = self._load_split()
        images, annotations = self._load_instances()
        data_list, rows = [], {}
        for ref in refs:
            annotation = self._find(annotations, 'ann_id', ref)
            image = self._find(images, 'image_id', ref)
            if annotation['image_id'] != ref['image_id']:
                raise InputError(f'{self.refs_file}: reference {ref["ref_id"]} is of image {ref["image_id"]}, but its '
                                 f'annotation {ref["ann_id"]} is of image {annotation["image_id"]}')
            rows.setdefault(ref['ann_id'], len(rows))
            item = dict(
                img_path=join_path(self.data_prefix['img_path'], image['file_name']),
                img_id=ref['image_id'],
                ref_id=ref['ref_id'],
                ann_id=ref['ann_id'],
                category_id=ref['category_id'],
                height=image['height'],
                width=image['width'],
                segmentation=rows[ref['ann_id']])
            sentences = self._sentences(ref)
            groups = [[sentence] for sentence in sentences] if self.test_mode else [sentences]
            data_list.extend(dict(item, sentences=group) for group in groups)
        self._mask_bytes, self._mask_ends = self._serialize_masks([annotations[ann_id] for ann_id in rows])
        return data_list

    def get_data_info(self, idx: int) -> dict:
        """The item ``idx`` with a sentence of its reference, drawn where there are several."""
        item = super().get_data_info(idx)
        sentences = item.pop('sentences')
        item.update(sentences[np.random.randint(len(sentences)) if len(sentences) > 1 else 0])
        row = item['segmentation']
        start = self._mask_ends[row - 1] if row else 0
        item['segmentation'] = pickle.loads(memoryview(self._mask_bytes[start:self._mask_ends[row]]))
        item['seg_fields'] = []
        return item

    def prepare_data(self, idx: int) -> Any:
        """The item ``idx`` after the pipeline."""
        item = self.get_data_info(idx)
        item['img_path'] = find_image(item['img_path'])
        return self.pipeline(item)

    def _load_split(self) -> List[dict]:
        _require_file(self.refs_file, 'References')
        refs = load_refs(self.refs_file)
        counts = Counter(ref['split'] for ref in refs)
        if self.split not in counts:
            known = ', '.join(f'{name} ({count} references)' for name, count in counts.items()) or 'no reference'
            raise InputError(f'{self.refs_file} has no split "{self.split}"; it has {known}')
        return [ref for ref in refs if ref['split'] == self.split]

    def _load_instances(self) -> Tuple[Dict[int, dict], Dict[int, dict]]:
        _require_file(self.ann_file, 'Annotations')
        try:
            with open(self.ann_file, encoding='utf-8') as file:
                content = json.load(file)
            images = {image['id']: {key: image[key] for key in ('file_name', 'height', 'width')}
                      for image in content['images']}
            annotations = {annotation['id']: {key: annotation[key] for key in ('id', 'image_id', 'segmentation')}
                           for annotation in content['annotations']}
        except KeyError as error:
            raise InputError(f'{self.ann_file} is not in the format of COCO instances: the key {error} is missing '
                             'from the file or one of its images or annotations') from None
        except (TypeError, ValueError) as error:
            raise InputError(f'{self.ann_file} is not in the format of COCO instances: {error}') from None
        return images, annotations

    def _find(self, records: Dict[int, dict], key: str, ref: dict) -> dict:
        if ref[key] not in records:
            raise InputError(f'{self.ann_file} has no {key} {ref[key]}, which reference {ref["ref_id"]} of '
                             f'{self.refs_file} asks for: the two files do not belong together')
        return records[ref[key]]

    def _sentences(self, ref: dict) -> List[dict]:
        if not ref['sentences']:
            raise InputError(f'{self.refs_file}: reference {ref["ref_id"]} has no sentence')
        sentences = []
        for sentence in ref['sentences']:
            if not sentence['sent'].strip():
                raise InputError(f'{self.refs_file}: sentence {sentence["sent_id"]} of reference {ref["ref_id"]} is '
                                 'blank')
            kind = dict(kind=sentence['kind']) if 'kind' in sentence else {}
            sentences.append(dict(sent_id=sentence['sent_id'], text=sentence['sent'], **kind))
        return sentences

    def _serialize_masks(self, annotations: List[dict]) -> Tuple[np.ndarray, np.ndarray]:
        """Pickled segmentations end to end as uint8, and where each of them ends."""
        for annotation in annotations:
            _check_segmentation(annotation['segmentation'], f'{self.ann_file}: annotation {annotation["id"]}')
        pickled = [pickle.dumps(annotation['segmentation'], protocol=4) for annotation in annotations]
        return np.frombuffer(b''.join(pickled), dtype=np.uint8), np.cumsum([len(item) for item in pickled])


def find_image(path: str) -> str:
    """The image at ``path``, or in the same folder under the name that COCO gave it in 2017.

    ``instances.json`` of RefCOCO says ``COCO_train2014_000000581857.jpg``. The same picture is ``000000581857.jpg`` in
    train2017, which holds all of train2014.

    Raises:
        FileNotFoundError: When neither is there.
    """
    folder, name = osp.split(path)
    short = join_path(folder, name.split('_')[-1]) if name.startswith('COCO_') else path
    for candidate in (path, short):
        if exists(candidate):
            return candidate
    also = f' (nor {short})' if short != path else ''
    raise FileNotFoundError(f'Image not found: {path}{also}. Check data_prefix.img_path; {REMEDY}')


def _require_file(path: str, role: str) -> None:
    if not osp.isfile(path):
        raise FileNotFoundError(f'{role} not found: {path}. {REMEDY}')


def _check_segmentation(segmentation: Union[list, dict], name: str) -> None:
    """A polygon is a flat list x0, y0, x1, y1, ... and needs 3 points, which are 6 numbers."""
    if isinstance(segmentation, dict):
        if not {'size', 'counts'} <= set(segmentation):
            raise InputError(f'{name}: an RLE segmentation needs the keys "size" and "counts"')
        return
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError(f'{name} has no polygon and no RLE')
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            size = f'{len(polygon)} numbers' if isinstance(polygon, list) else type(polygon).__name__
            raise InputError(f'{name} has a polygon of {size}: at least 3 points, x and y of each, are needed')
