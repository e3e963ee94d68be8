"""List the errors in a file for ReferringJSONDataset: ``tools/dataset_converters/check.py FILE.jsonl``.

Checks every line and decodes its images and mask images. A line that can be read but is doubtful gets a warning. The
exit status is 1 if anything is wrong. docs/data.md has the format.
"""

import argparse
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(':')[0])
    parser.add_argument('file', type=Path, metavar='FILE', help='one JSON object a line')
    parser.add_argument('--images', type=Path, help='folder of the images, data_prefix.img_path; default that of FILE')
    parser.add_argument(
        '--masks', type=Path, help='folder of the mask images, data_prefix.seg_map_path; default that of FILE'
    )
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.datasets.images import image_problem, mask_doubt, orientation_doubt, read_mask
from dit_sam.datasets.json_lines import (
    KEYS,
    image_id,
    mask_of,
    means_nothing,
    numbered_lines,
    parse_line,
    record_sentences,
    size_of,
)
from dit_sam.datasets.masks import area
from dit_sam.mmengine_extras.diagnostics import one_line_errors

# An image has several lines.
decoded = lru_cache(maxsize=100_000)(image_problem)


def problems_of(record: dict, images: Path, masks: Path) -> Iterator[str]:
    """Problems of the image and the mask of a well-formed line."""
    try:
        size = size_of(record, str(images))
    except ValueError as error:
        yield str(error)
        return
    problem = decoded(str(images / record['image']), *size)
    if problem:
        yield f'names the image {images / record["image"]}, which {problem}'
    try:
        counts = mask_of(record, *size)
        found = read_mask(str(masks / record['mask']), *size).any() if 'mask' in record else area(counts, *size)
    except ValueError as error:
        yield str(error)
        return
    if not found and not means_nothing(record):
        yield 'has a target without a pixel in its image; "segmentation": null says that there is none'


def coordinate_doubts(record: dict, images: Path) -> Iterator[str]:
    """Doubts about a box or polygons: fractions of the image, or corners in place of width and height."""
    polygons = record.get('segmentation')
    # RLEs may be among them.
    polygons = [part for part in polygons if isinstance(part, list)] if isinstance(polygons, list) else []
    parts = [record['bbox']] if 'bbox' in record else polygons
    if parts and max(map(max, parts)) <= 1:
        yield 'has coordinates from 0 to 1: they are pixels here, not fractions of the image'
    elif 'bbox' in record:
        (height, width), (left, top, across, down) = size_of(record, str(images)), record['bbox']
        if left + across > width + 1 or top + down > height + 1:
            yield 'has a box that ends outside of its image: "bbox" is left, top, width, height'


def doubts_of(record: dict, number: int, images: Path, masks: Path, ids: dict[str, tuple[str, int]]) -> Iterator[str]:
    """Doubts about a good line; `ids` has the image_id of each image, and the line that gave it."""
    turned = orientation_doubt(str(images / record['image'])) if record['image'] not in ids else None
    if turned:
        yield f'names the image {images / record["image"]}, which {turned}'
    yield from coordinate_doubts(record, images)
    for key in record.keys() - set(KEYS):
        near = get_close_matches(key, KEYS, n=1, cutoff=0.85)
        if near:
            yield f'has the key "{key}", which nothing reads: did you mean "{near[0]}"?'
    doubt = mask_doubt(str(masks / record['mask'])) if 'mask' in record else None
    if doubt:
        yield doubt
    counts, line = ids.setdefault(record['image'], (image_id(record), number))
    if 'image_id' in record and image_id(record) != counts:
        yield (
            f'gives {record["image"]} the image_id {record["image_id"]!r}, but line {line} comes first with '
            f'{counts!r}, which is used'
        )


def main(args: argparse.Namespace) -> int:
    images, masks = args.images or args.file.parent, args.masks or args.file.parent
    lines, sentences, problems, warnings, ids = 0, 0, 0, 0, {}
    with one_line_errors(OSError):
        for number, line in numbered_lines(str(args.file)):
            record, found = parse_line(line)
            found = found or list(problems_of(record, images, masks))
            doubts = [] if found else list(doubts_of(record, number, images, masks, ids))
            print(*(f'line {number} {problem}\n' for problem in found), sep='', end='')
            print(*(f'warning: line {number} {doubt}\n' for doubt in doubts), sep='', end='')
            lines, problems, warnings = lines + 1, problems + len(found), warnings + len(doubts)
            sentences += 0 if found else len(record_sentences(record))
    if not lines:
        print(f'{args.file} has no line')
        return 1
    print(
        f'{args.file}: {lines:,} lines, {sentences:,} good sentences, {problems:,} problems'
        + (f', {warnings:,} warnings' if warnings else '')
    )
    return int(problems > 0)


if __name__ == '__main__':
    sys.exit(main(ARGS))
