"""The order of the steps of a pipeline: image, mask, points and sentence must change together."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError

# Steps of mmcv, mmseg, mmdet and Albumentations that move pixels, by the name of the class or of a parent.
RESIZES = {'RandomChoiceResize', 'RandomResize', 'Resize', 'ResizeShortestEdge', 'ResizeToMultiple'}
BLIND_FLIPS = {
    *('RandomFlip', 'RandomRotFlip'),
    # Of Albumentations, in mmseg's `Albu`.
    *('D4', 'Flip', 'HorizontalFlip', 'RandomRotate90', 'SquareSymmetry', 'Transpose', 'VerticalFlip'),
}
OTHERS = {
    'CenterCrop',
    'DualTransform',
    'Expand',
    'GeomTransform',
    'MinIoURandomCrop',
    'Pad',
    'RandomAffine',
    'RandomCenterCropPad',
    'RandomCrop',
    'RandomRotate',
    'RandomShift',
}
FLIP, MASK, PROMPTS = 'ReferringFlip', 'LoadReferringMask', 'SamplePrompts'


def check_steps(steps: Sequence[Any], test_mode: bool, source: str) -> None:
    """Refuse an order of steps in which the mask, the points or the sentence would not follow the image.

    Steps that are not known to move pixels pass. The branches of test-time augmentation are not looked into.

    Args:
        steps: The transforms of a pipeline.
        test_mode: Whether it is for testing, where predictions return to the size of the file.
        source: What to call the pipeline in errors.

    Raises:
        InputError: It names the step and the remedy.
    """
    for problem in _problems(list(_flat(steps)), test_mode):
        raise InputError(f'{source}: {problem}')


def _problems(steps: Sequence[Any], test_mode: bool) -> Iterator[str]:
    names = [class_names(step) for step in steps]
    geometry = RESIZES | OTHERS | {FLIP}
    for step, found in zip(steps, names):
        kind = type(step).__name__
        # A flip of the user's own may change the sentence.
        is_known = type(step).__module__.split('.')[0] in ('mmcv', 'mmseg', 'mmdet', 'albumentations')
        if found & BLIND_FLIPS and is_known and getattr(step, 'prob', getattr(step, 'p', None)) != 0:
            yield f'{kind} mirrors the image and not its sentence ("the man on the left"): take {FLIP}'
        if test_mode and found & OTHERS:
            yield (
                f'{kind} in a test pipeline: the mask would be stretched over the whole image. Leave it out; the data '
                'preprocessor pads'
            )
    mask = next((i for i, found in enumerate(names) if MASK in found), None)
    if mask is not None and not test_mode:
        before = [i for i, found in enumerate(names[:mask]) if found & geometry]
        after = [i for i, found in enumerate(names) if i > mask and found & geometry]
        moved = [i for i in before if not names[i] & RESIZES] or (before if after else [])
        if moved:
            kind = type(steps[moved[0]]).__name__
            yield f'{kind} comes before {MASK}, so the mask would not follow the image: put {MASK} before it'
    prompts = next((i for i, found in enumerate(names) if PROMPTS in found), len(names))
    later = [type(steps[i]).__name__ for i, found in enumerate(names) if i > prompts and found & geometry]
    if later:
        yield f'{later[0]} comes after {PROMPTS}, so points and boxes would not follow the image: put it before'


def doubt_about_masks(steps: Sequence[Any]) -> str:
    """Which step of a training moves masks by half an input pixel, and the remedy; '' if none does.

    OpenCV's nearest neighbor does so, see `ReferringResize`.
    """
    loaded = False
    for step in _flat(steps):
        loaded = loaded or MASK in class_names(step)
        # RandomChoiceResize and RandomResize have one that they call.
        resize = getattr(step, 'resize', step)
        names = class_names(step) | class_names(resize)
        if loaded and names & RESIZES and 'ReferringResize' not in names and getattr(resize, 'backend', 'cv2') == 'cv2':
            return (
                f'{type(step).__name__} moves masks by half an input pixel against their pictures: take '
                "ReferringResize, in RandomChoiceResize and RandomResize as resize_type='ReferringResize'"
            )
    return ''


def class_names(step: Any) -> set[str]:
    return {kind.__name__ for kind in type(step).__mro__}


def _flat(steps: Sequence[Any]) -> Iterator[Any]:
    """The steps, with those inside mmcv's RandomApply and RandomChoice and mmseg's Albu."""
    for step in steps:
        names, inner = class_names(step), None
        if names & {'RandomApply', 'RandomChoice', 'Compose', 'BaseCompose'}:
            inner = getattr(step, 'transforms', None)
        elif 'Albu' in names:
            inner = step.aug.transforms
        if isinstance(inner, (list, tuple)):
            yield from _flat(inner)
        elif inner is not None:
            yield from _flat([inner])
        else:
            yield step
