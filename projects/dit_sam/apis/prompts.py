"""Points and boxes for the sentences: checked, matched with them, and converted to the model's pixels."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..datasets.image_stage import ImageStage
from ..errors import InputError, log_warning

# For one sentence; for one image a list of them, one for each sentence; for several images a list of either.
PromptInput = np.ndarray | Sequence | None

_POINTS_FORM = 'give (x, y) or (x, y, label) for each point, label 1 inside and 0 outside the object'
_BOX_FORM = 'give left, top, right, bottom'


@dataclass(frozen=True)
class Prompt:
    """The points and the box of one sentence, in pixels of the image as it is shown.

    Attributes:
        points: x, y and label (1 inside, 0 outside the object), (n, 3); None without points.
        box: left, top, right, bottom, (4,); None without a box.
    """

    points: np.ndarray | None = None
    box: np.ndarray | None = None

    def __bool__(self) -> bool:
        return self.points is not None or self.box is not None

    def metainfo(self, height: int, width: int, image_shape: Sequence[int], name: str) -> dict[str, np.ndarray]:
        """The prompt as `ReferringSegmentor` reads it, in pixels of the image resized from (height, width).

        Raises:
            InputError: A point or the box is not inside the image.
        """
        scale = np.array([image_shape[1] / width, image_shape[0] / height])
        item: dict[str, np.ndarray] = {}
        if self.points is not None:
            xy = self.points[:, :2]
            _check_inside(xy, height, width, 'point', name)
            # Centers of pixels stay centers of pixels.
            item['points'] = ((xy + 0.5) * scale - 0.5).astype(np.float32)
            item['point_labels'] = self.points[:, 2].astype(np.int64)
        if self.box is not None:
            _check_inside(self.box.reshape(2, 2), height, width, 'corner', name)
            item['box'] = (self.box * np.tile(scale, 2)).astype(np.float32)
        return item


def match_prompts(
    points: PromptInput, boxes: PromptInput, names: Sequence[str], numbers: Sequence[int], single: bool
) -> list[list[Prompt]]:
    """The prompt of each sentence of each image.

    Args:
        points: As in `ReferringInferencer`.
        boxes: As in `ReferringInferencer`.
        names: What to call the images in errors.
        numbers: How many sentences each image has.
        single: Whether the values are for one image; see `is_single`.

    Raises:
        InputError: The numbers differ, or a value has another form.
    """
    matched = []
    by_image = (_by_image(values, what, names, single) for values, what in ((points, 'points'), (boxes, 'boxes')))
    for name, number, image_points, image_boxes in zip(names, numbers, *by_image):
        points_of = _by_sentence(image_points, 2, number, 'points', name)
        boxes_of = _by_sentence(image_boxes, 1, number, 'boxes', name)
        matched.append([Prompt(_as_points(one, name), _as_box(box, name)) for one, box in zip(points_of, boxes_of)])
    return matched


def check_takes_prompts(head: nn.Module, stage: ImageStage) -> None:
    """Check that a model's head and test pipeline take points and boxes; warn if it was not trained with them.

    Raises:
        InputError: The head takes no prompts, or the pipeline may move the image under them.
    """
    if 'prompts' not in inspect.signature(head.forward).parameters:
        raise InputError(
            f'points or boxes are given, but {type(head).__name__} takes none: leave them out, or '
            'choose a model with SAMHead'
        )
    if not stage.shares:
        steps = ', '.join(type(step).__name__ for step in stage.rest.transforms)
        raise InputError(
            'points or boxes are given, but after Resize the test pipeline has steps that may move '
            f'the image under them: {steps}'
        )
    if not trains_with_prompts(head):
        log_warning(
            'this model was not trained with points and boxes (decode_head.spatial_prompts=False): their effect '
            "is undefined, unless its weights began as SAM's"
        )


def trains_with_prompts(head: nn.Module) -> bool:
    """Whether a head takes points and boxes, and was trained with them, as far as its settings say."""
    takes = 'prompts' in inspect.signature(head.forward).parameters
    encoder: Any = getattr(head, 'prompt_encoder', None)
    return takes and (encoder is None or any(weight.requires_grad for weight in encoder.point_embeddings.parameters()))


def _by_image(values: Any, what: str, names: Sequence[str], single: bool) -> Iterable[PromptInput]:
    if values is None or single:
        return [values] * len(names)
    number = len(values) if _depth(values) else 'none of them'
    if number != len(names):
        raise InputError(
            f'{len(names)} images, but {what} for {number}: give a list with an entry, or None, for each image'
        )
    return values


def _by_sentence(values: Any, depth: int, number: int, what: str, name: str) -> Iterable[Any]:
    """The value of each sentence: `values`, if they are lists nested `depth` deep, otherwise their entries."""
    if _depth(values) <= depth and not _has_none(values):
        return [values] * number
    if len(values) != number:
        raise InputError(
            f'{number} sentences for {name}, but {what} for {len(values)}: give the same for all, or a '
            'list with an entry, or None, for each sentence'
        )
    return values


def _depth(values: Any) -> int:
    """How deep lists are nested, or the number of axes of an array."""
    if isinstance(values, (list, tuple)):
        return 1 + max(map(_depth, values), default=0)
    return getattr(values, 'ndim', 0)


def _has_none(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and any(value is None for value in values)


def _as_points(values: Any, name: str) -> np.ndarray | None:
    """x, y and label, (n, 3); None without points."""
    if values is None or (_depth(values) > 0 and len(values) == 0):
        return None
    rows = [_numbers(row, f'a point for {name}', _POINTS_FORM) for row in (values if _depth(values) else [values])]
    if any(row.shape not in ((2,), (3,)) or (len(row) == 3 and row[2] not in (0, 1)) for row in rows):
        raise InputError(f'the points for {name} are {_short(values)}: {_POINTS_FORM}')
    return np.stack([np.append(row[:2], row[2] if len(row) == 3 else 1) for row in rows])


def _as_box(values: Any, name: str) -> np.ndarray | None:
    """left, top, right, bottom, (4,); None without a box."""
    if values is None:
        return None
    box = _numbers(values, f'the box for {name}', _BOX_FORM)
    if box.shape != (4,) or not (box[2:] > box[:2]).all():
        raise InputError(f'the box for {name} is {_short(values)}: {_BOX_FORM}, in this order')
    return box


def _numbers(values: Any, what: str, form: str) -> np.ndarray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all():
        raise InputError(f'{what} is {_short(values)}, not finite numbers: {form}')
    return array


def _check_inside(xy: np.ndarray, height: int, width: int, what: str, name: str) -> None:
    # The outer edge of the last pixel is inside, as in SAM.
    outside = xy[((xy < 0) | (xy > [width, height])).any(axis=1)]
    if len(outside):
        x, y = outside[0]
        raise InputError(
            f'the {what} ({x:g}, {y:g}) is outside image {name}: x goes from 0 to {width} and y to '
            f'{height}, in pixels of the image as it is shown'
        )


def _short(values: Any) -> str:
    text = ' '.join(str(values).split())
    return text if len(text) <= 80 else f'{text[:77]}…'
