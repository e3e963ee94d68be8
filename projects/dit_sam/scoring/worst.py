"""Pictures of the sentences with the lowest IoU."""

import cv2
import numpy as np

from ..datasets.images import find_image
from ..utils import decode_rle, read_image
from ..visualization import draw_masks, file_stem, write_image
from .answers import Problems, read_answers
from .rules import RULES
from .sheet import Sheet
from .truths import Truths


def draw_worst(path: str, truths: Truths, sheet: Sheet, number: int, folder: str, resize: str = 'none') -> list[str]:
    """Draw the sentences with the lowest IoU: the prediction filled, the truth as an outline.

    Args:
        path: The predictions, which are read again.
        truths: The sentences.
        sheet: The counted pixels.
        number: How many sentences.
        folder: Where the pictures are written; no file is replaced.
        resize: As in `read_answers`.

    Returns:
        Paths of the pictures, from the worst one on.

    Raises:
        FileNotFoundError: An image does not exist.
    """
    ious = sheet.ious(RULES['original'])
    chosen = np.argsort(ious, kind='stable')[:number].tolist()
    wanted, answers = set(chosen), read_answers(path, truths, Problems(), resize)
    masks = {answer.row: answer.rle for answer in answers if answer.row in wanted}
    paths = []
    for rank, row in enumerate(chosen, 1):
        info, truth = truths.info(row), truths.of_row(row)
        drawn, legend = [decode_rle(masks[row])], [f'{info["text"]} (IoU {ious[row]:.2f})', '(truth)']
        if truth.no_target:
            legend = [f'{info["text"]} (no target)']
        else:
            drawn.append(outline(truth.original))
        stem = f'{rank:03d}_{file_stem(info["img_path"], info["text"])}'
        try:
            picture = read_image(find_image(info['img_path']))
        except FileNotFoundError as error:
            raise FileNotFoundError(f'{info["img_path"]} not found, to draw it: name its folder, --images') from error
        paths.append(write_image(draw_masks(picture, drawn, legend), folder, stem))
    return paths


def outline(mask: np.ndarray) -> np.ndarray:
    """The border of a mask, inside it; its width grows with the picture."""
    width = max(1, max(mask.shape) // 200)
    # A border of zeros, so that the picture's edge counts as the mask's.
    inside = cv2.erode(np.pad(mask.astype(np.uint8), 1), np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~inside.astype(bool)
