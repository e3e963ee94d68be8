"""Small files of truths and predictions: pictures of 20 x 30 pixels, masks of whole rows."""

import json
from pathlib import Path

import numpy as np

from dit_sam.scoring import Sheet, Truths, open_data, score_answers
from dit_sam.utils import encode_rle

SIZE = (20, 30)


def rows(first: int, last: int, size: tuple[int, int] = SIZE) -> dict:
    """The RLE of the rows from `first` to before `last`."""
    mask = np.zeros(size, bool)
    mask[first:last] = True
    return encode_rle(mask)


def write_lines(path: Path, *lines: object) -> str:
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return str(path)


def truth_line(image: str, segmentation: dict | None, *sentences: str, **more: object) -> dict:
    return dict(image=image, height=SIZE[0], width=SIZE[1], sentences=sentences, segmentation=segmentation, **more)


def score_lines(folder: Path, truths: list[dict], answers: list[dict]) -> tuple[Sheet, Truths]:
    """Count the pixels of answers, which may have a `sent_id` from 0 on."""
    found = Truths(open_data(write_lines(folder / 'truth.jsonl', *truths)))
    return score_answers(write_lines(folder / 'answers.jsonl', *answers), found), found
