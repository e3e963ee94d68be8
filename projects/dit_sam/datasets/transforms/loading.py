import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ...errors import InputError
from ..columns import MAX_SIDE, is_side
from ..masks import decode_segmentation, draw_once, draw_scaled, encode_mask


def _outlines(results: dict) -> list:
    if not isinstance(results.get('outlines'), list):
        raise InputError(
            'covered_twice=False and scaled_side of LoadReferringMask need its polygons: set keep_outlines=True in '
            'the data set, RefCOCODataset or GRefCOCODataset'
        )
    return results['outlines']


def _misfit(results: dict, loaded: tuple, annotated: tuple) -> str:
    """Error message for an image that does not have the annotated size."""
    turned = (
        '. One of the two was probably turned by an EXIF orientation tag. If the annotation was drawn on the '
        'picture as shown, give the size as shown, or none, and LoadImageFromFile no '
        'color_type; if on the picture as stored, give the size as stored and set color_type='
        '"color_ignore_orientation", or save the picture without the tag'
    )
    return (
        f'{results["img_path"]} is {loaded} (height, width) as loaded, but its annotation {results["ann_id"]} was '
        f'drawn on {annotated}' + (turned if loaded == annotated[::-1] else ': one of the two is another picture')
    )


@TRANSFORMS.register_module()
class LoadReferringMask(BaseTransform):
    """Transform that draws the mask of the referent at the size of the annotated image.

    In training it comes right after the loading of the image, so that later transforms change both. In testing it comes
    after the resizing, so that the ground truth keeps the original size.

    Required keys: `segmentation`, `height`, `width`, `ori_shape`, `img_path`, `ann_id`, for the options `outlines`.
    Added keys: `gt_seg_map`, uint8 (height, width) in {0, 1}, and 255 inside the RLE `ignored`, if the item has one; it
    is also named in `seg_fields`. With `scaled_side` also `scaled_truth`, the RLE of a mask of that side, for
    `ReferringIoU`.

    Args:
        covered_twice: Pixels that several polygons of one object cover belong to it. In LAVT they do not.
        scaled_side: Side of a square in which the mask is also drawn, from polygons scaled to it. ReLA uses 480.

    Raises:
        InputError: The loaded image or the RLE does not have the annotated size, the outlines for an option are
            missing, or `scaled_side` is not a number of pixels.
    """

    def __init__(self, covered_twice: bool = True, scaled_side: int | None = None) -> None:
        if scaled_side is not None and not is_side(scaled_side):
            raise InputError(
                f'LoadReferringMask: scaled_side is a whole number of pixels from 1 to {MAX_SIDE} or '
                f'None, got {scaled_side!r}'
            )
        self.covered_twice, self.scaled_side = covered_twice, scaled_side

    def transform(self, results: dict) -> dict:
        """Add the mask to an item."""
        size = (results['height'], results['width'])
        if tuple(results['ori_shape'][:2]) != size:
            raise InputError(_misfit(results, tuple(results['ori_shape'][:2]), size))
        try:
            if self.covered_twice:
                results['gt_seg_map'] = decode_segmentation(results['segmentation'], *size)
            else:
                results['gt_seg_map'] = draw_once(_outlines(results), *size).astype(np.uint8)
            if 'ignored' in results:
                results['gt_seg_map'][decode_segmentation(results['ignored'], *size) == 1] = 255
            if self.scaled_side is not None:
                scaled = draw_scaled(_outlines(results), *size, self.scaled_side)
                results['scaled_truth'] = dict(size=[self.scaled_side] * 2, counts=encode_mask(scaled))
        except ValueError as error:
            raise InputError(f'Annotation {results["ann_id"]} of {results["img_path"]}: {error}') from error
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results
