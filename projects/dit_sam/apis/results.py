"""Predictions of `ReferringInferencer` as plain values, and the formats in which they are written to files."""

import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Literal

import cv2
import numpy as np
from mmseg.structures import SegDataSample

from ..errors import InputError
from ..utils import encode_rle, wrap_write_errors
from ..visualization import file_stem, write_image

MaskForm = Literal['array', 'rle', 'polygons']


@dataclass
class ImageResult:
    """What `ReferringInferencer.stream` yields for an image.

    Attributes:
        name: Its path, or `image_N` for the N-th one.
        error: Why it could not be used; None if it could.
        predictions: As `ReferringInferencer` returns them, one for each sentence; empty with an error.
        samples: The predictions as data samples, with `return_datasamples`.
        picture: With `return_vis` the drawn picture.
    """

    name: str
    error: Exception | None = None
    predictions: list[dict[str, Any]] = field(default_factory=list)
    samples: list[SegDataSample] = field(default_factory=list)
    picture: np.ndarray | None = None


def prediction_of(sample: SegDataSample) -> dict[str, Any]:
    """The prediction in a data sample, as plain values.

    Returns:
        img_path: Path of the image; None if it was an array or a PIL image.
        sentence: The sentence.
        mask: Boolean array (H, W) at the image's size.
        score: The IoU that the model predicts for the mask, if it does (`decode_head.predict_iou`). Otherwise the mean
            probability of the pixels inside the mask, which says how sure the model is of these pixels, not whether
            they are the right object. In [0, 1]; 0 for an empty mask.
        box: [left, top, right, bottom] around the mask in pixels, so that right − left is the width; None if the
            mask is empty.
        area: Number of pixels.
    """
    mask = sample.pred_sem_seg.data[0] == 1
    # The one channel of the SAM head holds probabilities here, the two of an mmseg head hold logits.
    values = sample.seg_logits.data
    probability = values[0] if len(values) == 1 else values.softmax(0)[1]
    area = int(mask.sum())
    score = 0.0
    if area:
        predicted = sample.get('predicted_iou')
        score = float(probability[mask].mean()) if predicted is None else predicted
    mask = mask.cpu().numpy()
    return dict(
        img_path=sample.metainfo.get('img_path'),
        sentence=sample.metainfo['text'],
        mask=mask,
        score=score,
        box=box_around(mask),
        area=area,
    )


def box_around(mask: np.ndarray) -> list[int] | None:
    """[left, top, right, bottom] of a boolean mask (H, W), with ends exclusive; None when it is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def trace_polygons(mask: np.ndarray) -> list[list[int]]:
    """COCO's polygons [x0, y0, x1, y1, …] along the outer edges of a boolean mask (H, W), one for each connected part.

    Corners are between pixels, so a single pixel is a square of side 1. Holes are filled, as COCO's polygons have none.
    """
    box = box_around(mask)
    if box is None:
        return []
    left, top, right, bottom = box
    # At twice the size, pixel x covers 2x and 2x + 1, which represent its left edge x and its right edge x + 1.
    doubled = mask[top:bottom, left:right].astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = [(contour[:, 0] + 1) // 2 + (left, top) for contour in contours]
    # Both ends of a doubled pixel's edge may come to lie on one corner.
    return [one[(one != np.roll(one, 1, 0)).any(1)].ravel().tolist() for one in corners]


def with_mask_as(prediction: dict[str, Any], form: MaskForm) -> dict[str, Any]:
    """A prediction whose `mask` is replaced by `segmentation`, in COCO's form, unless `form` is `array`."""
    if form == 'array':
        return prediction
    encode = encode_rle if form == 'rle' else trace_polygons
    plain = {key: value for key, value in prediction.items() if key != 'mask'}
    return dict(plain, segmentation=encode(prediction['mask']))


def as_json(prediction: dict[str, Any]) -> dict[str, Any]:
    """A prediction for JSON: the mask becomes COCO's compressed RLE, as `segmentation`."""
    return prediction if 'mask' not in prediction else with_mask_as(prediction, 'rle')


def as_coco(predictions: Sequence[dict[str, Any]]) -> dict[str, list[dict]]:
    """Predictions as a COCO data set, which `pycocotools.coco.COCO` and annotation tools open.

    Every sentence is an annotation, with `sentence` and `score` in addition to COCO's keys; `bbox` is left, top, width,
    height. If nothing was found for it, its area is 0.

    Args:
        predictions: Predictions for image files, with masks as arrays or as RLE.

    Raises:
        InputError: An image has no path, by which COCO tells images apart; or masks are polygons, without the image's
            size.
    """
    numbers: dict[str, int] = {}
    images: list[dict] = []
    annotations: list[dict] = []
    for prediction in map(as_json, predictions):
        code, path = prediction['segmentation'], prediction['img_path']
        if path is None:
            raise InputError('COCO names images by file: segment files, not arrays, for this form')
        if isinstance(code, list):
            raise InputError("polygons do not tell the size of the image: call with return_masks='rle' for this form")
        if path not in numbers:
            numbers[path] = len(numbers) + 1
            images.append(dict(id=numbers[path], file_name=path, height=code['size'][0], width=code['size'][1]))
        left, top, right, bottom = prediction['box'] or (0, 0, 0, 0)
        annotations.append(
            dict(
                id=len(annotations) + 1,
                image_id=numbers[path],
                category_id=1,
                segmentation=code,
                bbox=[left, top, right - left, bottom - top],
                area=prediction['area'],
                iscrowd=0,
                sentence=prediction['sentence'],
                score=prediction['score'],
            )
        )
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='object')])


def as_npz(predictions: Sequence[dict[str, Any]]) -> bytes:
    """Predictions with boolean masks as a compressed .npz file, which `numpy.load` reads without pickle.

    `image`, `sentence`, `score`, `area` (N,) and `box` (N, 4), zeros where nothing was found, in the order of the
    predictions; `mask_1` … `mask_N`, each (H, W) of its image.

    Raises:
        InputError: A prediction has no boolean mask.
    """
    if not all('mask' in prediction for prediction in predictions):
        raise InputError("predictions without masks: for this form, call the inferencer with return_masks='array'")
    columns = dict(
        image=[prediction['img_path'] or '' for prediction in predictions],
        box=[prediction['box'] or [0] * 4 for prediction in predictions],
        **{key: [prediction[key] for prediction in predictions] for key in ('sentence', 'score', 'area')},
    )
    masks = {f'mask_{number}': prediction['mask'] for number, prediction in enumerate(predictions, 1)}
    arrays = {key: np.array(column) for key, column in columns.items()}
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays, **masks)  # type: ignore[arg-type]
    return buffer.getvalue()


def cut_out(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The object of a boolean mask (H, W) alone, RGBA (h, w, 4): an RGB picture (H, W, 3) cropped to the mask's box.

    Pixels outside the mask are transparent and black.

    Raises:
        InputError: The mask is empty.
    """
    box = box_around(mask)
    if box is None:
        raise InputError('an empty mask has nothing to cut out')
    window = slice(box[1], box[3]), slice(box[0], box[2])
    inside = mask[window][..., None]
    return np.concatenate([picture[window] * inside, inside * np.uint8(255)], axis=2)


def write_cutouts(picture: np.ndarray, predictions: Sequence[dict], out_dir: str) -> None:
    """Write a PNG with a transparent background for each object that was found; note it as `cutout_file`.

    Args:
        picture: The RGB picture (H, W, 3).
        predictions: Predictions for it, with masks as arrays.
        out_dir: The folder; no file in it is replaced.

    Raises:
        InputError: A file cannot be written.
    """
    with wrap_write_errors(out_dir):
        for prediction in (one for one in predictions if one['area']):
            stem = file_stem(prediction['img_path'] or 'image', prediction['sentence'])
            prediction['cutout_file'] = write_image(cut_out(picture, prediction['mask']), out_dir, stem)


def write_pictures(drawn: np.ndarray, name: str, predictions: Sequence[dict], out_dir: str) -> None:
    """Write the drawn picture of an image (H', W', 3) to `vis/` and its masks to `pred/`; note both in the predictions.

    Raises:
        OSError: A file cannot be written.
    """
    stem = file_stem(name, *(prediction['sentence'] for prediction in predictions))
    overlay_file = write_image(drawn, osp.join(out_dir, 'vis'), stem)
    for prediction in predictions:
        mask = prediction['mask'].astype(np.uint8) * 255
        mask_file = write_image(mask, osp.join(out_dir, 'pred'), file_stem(name, prediction['sentence']))
        prediction.update(overlay_file=overlay_file, mask_file=mask_file)
