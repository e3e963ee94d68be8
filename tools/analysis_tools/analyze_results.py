"""Where a model errs: ``tools/analysis_tools/analyze_results.py DUMP.jsonl [--worst N --out DIR]``.

Reads a dump of ``ReferringIoU`` and prints its scores by kind of sentence, length of the sentence, category, and size
of the object. ``--worst`` draws the sentences with the lowest IoU, for which the dump must hold masks:

    python tools/test.py CONFIG CHECKPOINT --cfg-options test_evaluator.dump=DUMP.jsonl test_evaluator.dump_masks=True
"""

import argparse
import json
import os.path as osp
from bisect import bisect_right
from collections.abc import Callable, Sequence


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('dump', metavar='DUMP.jsonl', help='file of ReferringIoU, dump=FILE')
    parser.add_argument('--categories', metavar='INSTANCES.json', help='COCO file that names the categories')
    parser.add_argument('--worst', type=int, default=0, metavar='N', help='draw the N sentences with the lowest IoU')
    parser.add_argument('--out', default='work_dirs/worst', help='folder for the pictures; no file is replaced')
    args = parser.parse_args()
    if args.worst < 0:
        parser.error(f'--worst must be 0 or more, got {args.worst}')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import cv2
import numpy as np

from dit_sam.errors import InputError
from dit_sam.evaluation.dump import areas_of, read_dump
from dit_sam.evaluation.protocols import PROTOCOLS, Protocol
from dit_sam.evaluation.scores import score_table, scores_of
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import decode_rle, read_image
from dit_sam.visualization import draw_masks, file_stem, write_image

# Words of a sentence; the groups of the papers on RefCOCO (1-2, 3, 4-5, 6 and more) and on RefCOCOg are among them.
LENGTHS = (1, 3, 4, 6, 8, 11, 21)
# Share of the image in percent.
SHARES = (0, 1, 2, 5, 10, 25, 50)


def by_length(line: dict) -> str | None:
    """By the number of words."""
    words = (line.get('sentence') or '').split()
    if not words:
        return None
    place = bisect_right(LENGTHS, len(words))
    first = LENGTHS[place - 1]
    if place == len(LENGTHS):
        return f'{first} or more words'
    last = LENGTHS[place] - 1
    return f'{first} words' if last == first else f'{first} to {last} words'


def by_size(line: dict) -> str:
    """By the share of the picture that the object covers."""
    if line['no_target']:
        return 'no object'
    place = bisect_right(SHARES, 100 * line['truth_area'] / line['pixels'])
    return f'{SHARES[place - 1]} to {[*SHARES, 100][place]} %'


def by_category(names: dict[int, str]) -> Callable[[dict], str | None]:
    """By name, or by number if it has no name. Sentences with several objects may have several categories."""

    def category(line: dict) -> str | None:
        ids = line.get('category_id')
        if ids is None:
            return None
        ids = sorted(set(ids)) if isinstance(ids, list) else [ids]
        return ' + '.join(str(names.get(number, number)) for number in ids)

    return category


def read_categories(path: str | None) -> dict[int, str]:
    """Names of the categories of a COCO file.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It has no categories.
    """
    if path is None:
        return {}
    if not osp.isfile(path):
        raise FileNotFoundError(f'--categories {path} not found: name the ann_file of the dataset, instances.json')
    with open(path, encoding='utf-8') as file:
        try:
            return {category['id']: category['name'] for category in json.load(file)['categories']}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'--categories {path} has no COCO categories: name the ann_file of the dataset') from error


def report(lines: Sequence[dict], title: str, group_of: Callable[[dict], str | None]) -> str | None:
    """A table of scores for each group, in the order of their names; None if no line has a group."""
    groups: dict[str, list[dict]] = {}
    for line in lines:
        group = group_of(line)
        if group is not None:
            groups.setdefault(str(group), []).append(line)
    if not groups:
        return None
    generalized = any(line['no_target'] for line in lines)
    rows = {name: _row(groups[name], generalized) for name in sorted(groups, key=_natural)}
    return score_table(title, _row(lines, generalized), rows)


def _row(lines: Sequence[dict], generalized: bool) -> tuple[int, dict[str, float]]:
    inclusive = PROTOCOLS.get(lines[0].get('protocol'), Protocol()).inclusive
    return len(lines), scores_of([areas_of(line) for line in lines], generalized, inclusive)


def _natural(name: str) -> tuple[int, str]:
    """A sort key: names without a leading number first, then the others by that number."""
    number = name.split(maxsplit=1)[0] if name.strip() else ''
    return (int(number) if number.isdecimal() else -1), name


def draw_worst(lines: Sequence[dict], number: int, folder: str) -> list[str]:
    """Draw the sentences with the lowest IoU: the prediction filled, the ground truth as an outline.

    Returns:
        Paths of the pictures.

    Raises:
        FileNotFoundError: An image of the dump does not exist.
        InputError: The dump has no masks.
    """
    paths = []
    for rank, line in enumerate(sorted(lines, key=lambda line: line['iou'])[:number], 1):
        if 'prediction' not in line or 'truth' not in line:
            raise InputError('the dump has no masks to draw: score again with test_evaluator.dump_masks=True')
        if not osp.isfile(line.get('img_path', '')):
            raise FileNotFoundError(
                f'image {line.get("img_path")} of the dump not found: run this in the folder where tools/test.py ran'
            )
        image = read_image(line['img_path'])
        masks = [decode_rle(line['prediction'])]
        if line['no_target']:
            legend = [f'{line["sentence"]} (no target)']
        else:
            masks.append(outline(decode_rle(line['truth'])))
            legend = [f'{line["sentence"]} (IoU {line["iou"]:.2f})', '(truth)']
        stem = f'{rank:03d}_{file_stem(line["img_path"], line["sentence"])}'
        paths.append(write_image(draw_masks(image, masks, legend), folder, stem))
    return paths


def outline(mask: np.ndarray) -> np.ndarray:
    """The border of a mask, inside it; its width grows with the picture."""
    width = max(1, max(mask.shape) // 200)
    # A border of zeros, so that the picture's edge counts as the mask's.
    inside = cv2.erode(np.pad(mask.astype(np.uint8), 1), np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~inside.astype(bool)


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        lines = read_dump(args.dump)
        views = dict(
            kind=lambda line: line.get('kind'),
            length=by_length,
            category=by_category(read_categories(args.categories)),
            size=by_size,
        )
        for title, group_of in views.items():
            table = report(lines, title, group_of)
            print(table or f'No line has a {title}.', end='\n\n')
        if args.worst:
            print('\n'.join(['written:', *draw_worst(lines, args.worst, args.out)]))


if __name__ == '__main__':
    main(ARGS)
