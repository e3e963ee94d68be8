"""List the errors in a file for ReferringJSONDataset: ``tools/dataset_converters/check.py FILE.jsonl``.

Checks every line and decodes its images and mask images. A line that can be read but is doubtful gets a warning. The
exit status is 1 if anything is wrong. docs/data.md has the format.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from math import inf
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
    LONGER_JSON,
    TARGETS,
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

# Tokens without [CLS] and [SEP] of the 20 in most configs, if each word is one.
WORDS = 18
# An image has several lines.
decoded = lru_cache(maxsize=100_000)(image_problem)


def problems_of(record: dict, images: Path, masks: Path) -> Iterator[str]:
    """Problems of the image and the mask of a well-formed line."""
    slashes = record['image'].replace('\\', '/')
    hint = f'; {slashes} is there' if slashes != record['image'] and (images / slashes).is_file() else ''
    try:
        size = size_of(record, str(images))
    except ValueError as error:
        yield f'{error}{hint}'
        return
    problem = decoded(str(images / record['image']), *size)
    if problem:
        yield f'names the image {images / record["image"]}, which {problem}{hint}'
    try:
        counts = mask_of(record, *size)
        found = read_mask(str(masks / record['mask']), *size).any() if 'mask' in record else area(counts, *size)
    except ValueError as error:
        yield str(error)
        return
    if not found and not means_nothing(record):
        yield 'has a target without a pixel in its image; "segmentation": null says that there is none'


@dataclass
class Seen:
    """What the good lines up to now have, for doubts about several lines."""

    # The image_id of each image, and the line that gave it.
    ids: dict[str, tuple[str, int]] = field(default_factory=dict)
    # The line and the hash of the target of each sentence about an image.
    targets: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    largest_coordinate: float = 0.0
    smallest_side: float = inf
    long_sentences: int = 0
    longest: tuple[int, int] = (0, 0)

    def note(self, record: dict, number: int, size: tuple[int, int]) -> None:
        """Add a line, but for its image_id and targets, which the doubts about it add."""
        parts = coordinates_of(record)
        if parts:
            self.largest_coordinate = max(self.largest_coordinate, *map(max, parts))
            self.smallest_side = min(self.smallest_side, *size)
        for text in record_sentences(record):
            words = len(text.split())
            self.long_sentences += words > WORDS
            self.longest = max(self.longest, (words, number))

    def doubts(self) -> Iterator[str]:
        """Doubts about the whole file."""
        if 1 < self.largest_coordinate <= 100 and self.smallest_side > 200:
            yield 'no coordinate is above 100, and all images are larger: they are pixels here, not percentages'
        if self.long_sentences:
            words, number = self.longest
            yield (
                f'{self.long_sentences} sentences have more than {WORDS} words, one of line {number} has {words}: '
                'with model.text_encoder.max_length=20, as in most configs, their ends are cut off'
            )


def coordinates_of(record: dict) -> list[list[float]]:
    """The polygons or the box of a line."""
    polygons = record.get('segmentation')
    # RLEs may be among them.
    polygons = [part for part in polygons if isinstance(part, list)] if isinstance(polygons, list) else []
    return [record['bbox']] if 'bbox' in record else polygons


def coordinate_doubts(record: dict, size: tuple[int, int]) -> Iterator[str]:
    """Doubts about a box or polygons: fractions of the image, another size, corners in place of width and height."""
    parts, (height, width) = coordinates_of(record), size
    if parts and max(map(max, parts)) <= 1:
        yield 'has coordinates from 0 to 1: they are pixels here, not fractions of the image'
    elif 'bbox' in record:
        left, top, across, down = record['bbox']
        if left + across > width + 1 or top + down > height + 1:
            yield 'has a box that ends outside of its image: "bbox" is left, top, width, height'
    elif parts:
        # Annotators leave the image by a pixel or two.
        beyond = max(max(max(part[0::2]) - width, max(part[1::2]) - height, -min(part)) for part in parts)
        if beyond > max(3, 0.01 * max(size)):
            yield (
                f'has a polygon that leaves its image of {height} x {width} (height x width) by {beyond:.0f} pixels: '
                'was it drawn on the picture in another size, or turned?'
            )


def sentence_doubts(record: dict, number: int, seen: Seen) -> Iterator[str]:
    """Doubts about sentences that were there before."""
    target = hash(json.dumps([record.get(key) for key in TARGETS]))
    for text in record_sentences(record):
        key = (record['image'], ' '.join(text.lower().split()))
        line, other = seen.targets.setdefault(key, (number, target))
        if line != number and other == target:
            yield f'repeats {text!r} of line {line}'
        elif line != number:
            yield (
                f'says {text!r} of another object than line {line}: say which is meant or, if both are, draw both in '
                'one line'
            )


def doubts_of(record: dict, number: int, images: Path, masks: Path, seen: Seen) -> Iterator[str]:
    """Doubts about a good line."""
    says_size = 'height' in record or 'mask' in record
    turned = orientation_doubt(str(images / record['image']), says_size) if record['image'] not in seen.ids else None
    if turned:
        yield f'names the image {images / record["image"]}, which {turned}'
    yield from coordinate_doubts(record, size_of(record, str(images)))
    yield from sentence_doubts(record, number, seen)
    for key in record.keys() - set(KEYS):
        near = get_close_matches(key, KEYS, n=1, cutoff=0.85)
        if near:
            yield f'has the key "{key}", which nothing reads: did you mean "{near[0]}"?'
    doubt = mask_doubt(str(masks / record['mask'])) if 'mask' in record else None
    if doubt:
        yield doubt
    counts, line = seen.ids.setdefault(record['image'], (image_id(record), number))
    if 'image_id' in record and image_id(record) != counts:
        yield (
            f'gives {record["image"]} the image_id {record["image_id"]!r}, but line {line} comes first with '
            f'{counts!r}, which is used'
        )


def main(args: argparse.Namespace) -> int:
    images, masks = args.images or args.file.parent, args.masks or args.file.parent
    lines, sentences, problems, warnings, seen = 0, 0, 0, 0, Seen()
    with one_line_errors(OSError):
        for number, line in numbered_lines(str(args.file)):
            record, found = parse_line(line)
            found = found or list(problems_of(record, images, masks))
            doubts = [] if found else list(doubts_of(record, number, images, masks, seen))
            print(*(f'line {number} {problem}\n' for problem in found), sep='', end='')
            print(*(f'warning: line {number} {doubt}\n' for doubt in doubts), sep='', end='')
            lines, problems, warnings = lines + 1, problems + len(found), warnings + len(doubts)
            if lines == 1 and found == [LONGER_JSON]:
                break
            if not found:
                seen.note(record, number, size_of(record, str(images)))
                sentences += len(record_sentences(record))
    if not lines:
        print(f'{args.file} has no line')
        return 1
    for doubt in seen.doubts():
        print(f'warning: {doubt}')
        warnings += 1
    print(
        f'{args.file}: {lines:,} lines, {sentences:,} good sentences, {problems:,} problems'
        + (f', {warnings:,} warnings' if warnings else '')
    )
    return int(problems > 0)


if __name__ == '__main__':
    sys.exit(main(ARGS))
