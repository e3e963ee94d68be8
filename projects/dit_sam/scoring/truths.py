"""The sentences that are scored, and their true masks in the forms that the rules compare with."""

import os.path as osp
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np

from ..datasets import ReferringDataset
from ..datasets.images import base_name, coco_number, coco_numbers
from ..datasets.masks import draw_once, draw_scaled
from ..evaluation.protocols import stretch_array
from ..utils import decode_rle

SIDE = 480
# Words that sentences about different things share.
COMMON_WORDS = frozenset('a an and at by he her his i in is it its of on one s she that the their this to with'.split())


@dataclass(eq=False)
class Truth:
    """The true mask of a sentence, in forms that are drawn when they are asked for.

    Attributes:
        rle: COCO's compressed RLE: `size`, [H, W], and `counts`, bytes.
        outlines: Segmentations of its objects as annotated; None if the data do not have them.
        no_target: Whether the annotation says that the sentence means nothing.
        ignored: RLE of the pixels that do not count, neither here nor in predictions; None if there are none.
    """

    rle: dict[str, Any]
    outlines: list | None
    no_target: bool
    ignored: dict[str, Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return tuple(self.rle['size'])

    @cached_property
    def counting(self) -> np.ndarray | None:
        """The pixels that count, boolean (H, W); None if all do."""
        return None if self.ignored is None else ~decode_rle(self.ignored)

    @cached_property
    def original(self) -> np.ndarray:
        """At the size of the picture, boolean (H, W)."""
        return decode_rle(self.rle)

    @cached_property
    def summed(self) -> np.ndarray:
        """At the size of the picture, without the pixels that several polygons of an object cover, boolean (H, W).

        LAVT and EVF-SAM add the polygons and keep the value 1. Without outlines, nothing is known to be covered twice.
        """
        return self.original if self.once is None else self.once

    @cached_property
    def summed_480(self) -> np.ndarray:
        """`summed`, stretched to 480 x 480 by nearest neighbor, as in LAVT."""
        return stretch_array(self.summed, SIDE)

    @cached_property
    def scaled_480(self) -> np.ndarray:
        """Drawn from polygons that are scaled to 480 x 480, as ReLA does; without outlines, the stretched mask."""
        if self.outlines is None:
            return stretch_array(self.original, SIDE)
        return draw_scaled(self.outlines, *self.size, SIDE)

    @cached_property
    def boundary(self) -> np.ndarray:
        """The pixels near its edge; see `boundary_of`."""
        return boundary_of(self.original)

    @cached_property
    def once(self) -> np.ndarray | None:
        """The pixels that exactly one polygon of an object covers, boolean (H, W); None without outlines."""
        return None if self.outlines is None else draw_once(self.outlines, *self.size)

    @property
    def covered_twice(self) -> int:
        """Number of pixels that several polygons of an object cover."""
        return 0 if self.once is None else int(np.count_nonzero(self.original & ~self.once))


def boundary_of(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask (H, W) that are at most 2 % of the picture's diagonal away from its outside.

    As in Boundary IoU (Cheng et al., CVPR 2021), whose code erodes the mask by a 3 x 3 square as often as the distance
    has pixels: what disappears is nearer than that in the chessboard metric. Beyond the picture is outside.
    """
    width = max(1, round(0.02 * float(np.hypot(*mask.shape))))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    found = np.zeros(mask.shape, bool)
    if len(rows):
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        depth = cv2.distanceTransform(np.pad(mask[box].astype(np.uint8), 1), cv2.DIST_C, 3)[1:-1, 1:-1]
        found[box] = mask[box] & (depth <= width)
    return found


def _may_agree(sentence: Any, other: str) -> bool:
    """Whether an answer's sentence may be another form of a sentence: they share a word that says something."""
    words, others = _words(sentence), _words(other)
    return words == others or bool(words & others - COMMON_WORDS)


def _words(text: Any) -> set[str]:
    return set(re.findall(r'\w+', str(text).casefold()))


class Truths:
    """The sentences of a data set by row, to be found by the keys of an answer.

    Args:
        dataset: In test mode, so that an item is a sentence.
    """

    def __init__(self, dataset: ReferringDataset) -> None:
        self.dataset = dataset
        dataset.full_init()
        self.table = dataset.table
        self._by_id: dict[str, list[int]] = {}
        self._ids: list[str] = []
        self._by_text: dict[tuple[str, str], list[int]] = {}
        self.images = dataset.image_numbers()
        self._names = names = [_names(*self._image(row)) for row in range(self.table.rows('images'))]
        self._all_names = {name for found in names for name in found}
        # A name that several images have is none.
        several = {name for name, number in Counter(name for found in names for name in found).items() if number > 1}
        for row in range(len(self)):
            sentence = self.table.sentence(int(dataset.data_list[row]))
            self._ids.append(str(sentence['sent_id']))
            self._by_id.setdefault(self._ids[row], []).append(row)
            for name in (one for one in names[self.images[row]] if one not in several):
                self._by_text.setdefault((name, sentence['text']), []).append(row)
        # Ids of several questions.
        self._shared_ids = {
            key
            for key, rows in self._by_id.items()
            if len(rows) > 1 and len({(self.images[row], self.text(row)) for row in rows}) > 1
        }
        # The sentences of a reference follow each other; more masks of large pictures would take much memory.
        self._truth_of = lru_cache(maxsize=8)(self._truth)
        self._reference = lru_cache(maxsize=8)(self.table.reference)

    def __len__(self) -> int:
        return len(self.dataset)

    def info(self, row: int) -> dict:
        """The item of a row, as the data set gives it."""
        return self.dataset.get_data_info(row)

    def find(self, answer: dict) -> list[int]:
        """The rows that an answer is for: by `sent_id`, or else by `image` and `sentence`.

        Several rows are the same question about the same picture. An id that the data have for several questions finds
        one only together with `image` and `sentence`. If these find another question than the id, they count, as ids
        may be numbers of lines, and lines may be moved. Otherwise the id finds its sentence if the answer's may be
        another form of it, see `_may_agree`, and about the same image. One of the two is enough if the answer does
        not have the other, and an equal sentence if no image of the data has that name. Other data have the same ids.
        """
        path, sentence = answer.get('image') or '', answer.get('sentence')
        found = (self._by_text.get((name, str(sentence)), []) for name in _names(None, path))
        by_text = next((rows for rows in found if rows and self._may_be(path, rows[0])), [])
        if answer.get('sent_id') is None:
            return by_text
        key = str(answer['sent_id'])
        by_both = [row for row in by_text if self._ids[row] == key]
        if by_both or key in self._shared_ids:
            return by_both
        if by_text:
            return by_text
        return [row for row in self._by_id.get(key, []) if self._may_mean(path, sentence, row)]

    def has(self, sent_id: Any) -> bool:
        """Whether a sentence has this id."""
        return str(sent_id) in self._by_id

    def is_shared(self, sent_id: Any) -> bool:
        """Whether several questions have this id."""
        return str(sent_id) in self._shared_ids

    def text(self, row: int) -> str:
        """The sentence of a row."""
        return self.table.value('sentences.text', int(self.dataset.data_list[row]))

    def _may_mean(self, path: str, sentence: Any, row: int) -> bool:
        """Whether an answer with the id of a row may be about its sentence."""
        names = {*_names(None, path)} if path else set()
        here = not path or not names.isdisjoint(self._names[self.images[row]])
        if not here and not names.isdisjoint(self._all_names):
            return False
        if sentence and _words(sentence) == _words(self.text(row)):
            return True
        return here and (not sentence or _may_agree(sentence, self.text(row)))

    def _may_be(self, path: str, row: int) -> bool:
        """Whether a path can be the picture of a row: folders that both have must agree, unless COCO's number does."""
        name = self._image(self.images[row])[1]
        if coco_number(path) is not None and coco_number(path) == coco_number(name):
            return True
        ours, theirs = _folders(name), _folders(path)
        shared = min(len(ours), len(theirs))
        return not shared or ours[-shared:] == theirs[-shared:]

    def about(self, row: int) -> dict:
        """What the data say about a sentence, without its mask: the item's keys but `img_path` and `no_target`."""
        return dict(self._reference(self.reference(row)), **self.table.sentence(int(self.dataset.data_list[row])))

    def reference(self, row: int) -> int:
        """The number of a row's reference, whose sentences have the same mask."""
        return self.table.reference_of(int(self.dataset.data_list[row]))

    def of_row(self, row: int) -> Truth:
        """The true mask of a row."""
        return self._truth_of(self.reference(row))

    def _truth(self, reference: int) -> Truth:
        info = self.dataset.info(reference, self.table.sentence_rows(reference)[0], 0)
        return Truth(info['segmentation'], info.get('outlines'), bool(info['no_target']), info.get('ignored'))

    def _image(self, row: int) -> tuple[Any, str]:
        return self.table.value('images.id', row), self.table.value('images.file_name', row)


def _names(image_id: Any, path: str) -> list[str]:
    """What an answer may call an image: its path, file name, file name without suffix, number in COCO, and id."""
    found: list[str] = []
    if path:
        name = base_name(path)
        found += [path, name, osp.splitext(name)[0], *map(str, sorted(coco_numbers('', path)))]
    return list(dict.fromkeys([*found, *([] if image_id is None else [str(image_id)])]))


def _folders(path: str) -> list[str]:
    return re.split(r'[/\\]', path)[:-1]
