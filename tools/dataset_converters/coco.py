"""Write lines for ReferringJSONDataset from a COCO file whose annotations have sentences.

Usage: ``tools/dataset_converters/coco.py INSTANCES.json --key attributes.sentence --out train.jsonl``

The key is where an annotation has its sentence, or a list of them: `sentence`, `attributes.sentence` (CVAT), or
`category` for the name of its category. Annotations of an image with equal sentences become one line with all of their
masks: the pieces of an object, or all objects that are meant. Sizes of pictures are written too, so that pictures that
are turned by an EXIF tag are noticed. docs/data.md has the format.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('file', metavar='INSTANCES.json', help='with images, annotations and categories')
    parser.add_argument('--out', required=True, help='the file to write; it must not exist')
    parser.add_argument('--key', default='sentence', help='where an annotation has its sentence (default: %(default)s)')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.datasets.json_lines import parse_line
from dit_sam.datasets.masks import encode_segmentation, unite
from dit_sam.datasets.reference_files import ID, check_types, load_json
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_file, wrap_write_errors


def read_coco(path: str) -> tuple[dict, list, dict]:
    """Images by id, annotations, and names of categories by id.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no COCO file, or an image is malformed.
    """
    try:
        content = load_json(path, encoding='utf-8-sig')
    except FileNotFoundError:
        raise FileNotFoundError(f'{path} not found: check the path') from None
    except ValueError as error:
        raise InputError(f'{path} is not JSON: {error}') from error
    check_types(content, dict(images=list, annotations=list), path)
    images: dict = {}
    for index, image in enumerate(content['images']):
        item = f'{path}: image {index}'
        check_types(image, dict(id=ID, file_name=str, height=int, width=int), item)
        if image['id'] in images:
            raise InputError(f'{item} has the id {image["id"]!r} of another image: give each its own')
        images[image['id']] = image
    categories = [one for one in content.get('categories') or () if isinstance(one, dict)]
    names = {one['id']: one.get('name') for one in categories if isinstance(one.get('id'), ID)}
    return images, content['annotations'], names


def name_of_category(annotation: dict, names: dict) -> str | None:
    """The name of an annotation's category; None without one."""
    category = annotation.get('category_id')
    name = names.get(category) if isinstance(category, ID) else None
    return name if isinstance(name, str) else None


def sentences_of(annotation: dict, key: str, names: dict) -> list[str]:
    """The sentences of an annotation; none if it has none."""
    found: Any = dict(annotation, category=name_of_category(annotation, names))
    for part in key.split('.'):
        found = found.get(part) if isinstance(found, dict) else None
    texts = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(text.strip() for text in texts if isinstance(text, str) and text.strip()))


def joined(segmentations: list, height: int, width: int) -> Any:
    """Segmentations as one: their polygons, or the RLE of their union; ValueError if one is empty or malformed."""
    if not all(segmentations):
        raise ValueError('has an empty segmentation')
    parts = [part for one in segmentations for part in (one if isinstance(one, list) else [one])]
    if all(isinstance(part, list) for part in parts):
        return parts
    counts = unite([encode_segmentation(one, height, width) for one in segmentations], height, width)
    return dict(size=[height, width], counts=counts.decode())


def line_of(image: dict, sentences: list[str], members: list[dict], names: dict) -> str:
    """The line of annotations of an image with the same sentences; ValueError if they are malformed."""
    size = dict(height=image['height'], width=image['width'])
    segmentation = joined([member['segmentation'] for member in members], **size)
    record = dict(image=image['file_name'], sentences=sentences, segmentation=segmentation, **size)
    kind = name_of_category(members[0], names)
    record |= {} if kind is None else dict(kind=kind)
    _, problems = parse_line(json.dumps(record).encode())
    if problems:
        raise ValueError(problems[0])
    return json.dumps(record, ensure_ascii=False)


def lines_of(path: str, key: str) -> tuple[list[str], Counter]:
    """The lines of a COCO file, in the order of its annotations, and how many annotations have what.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no COCO file, or an image, or an annotation that has a sentence, is malformed.
    """
    images, annotations, names = read_coco(path)
    groups: dict[tuple, list[dict]] = {}
    counts = Counter(annotations=len(annotations))
    for index, annotation in enumerate(annotations):
        item = f'{path}: annotation {index}'
        check_types(annotation, {}, item)
        sentences = sentences_of(annotation, key, names)
        if not sentences:
            continue
        check_types(annotation, dict(image_id=ID, segmentation=(list, dict)), item)
        if annotation['image_id'] not in images:
            raise InputError(f'{item} is of image {annotation["image_id"]!r}, which the file does not have')
        counts['with sentences'] += 1
        groups.setdefault((annotation['image_id'], *sentences), []).append(annotation)
    lines = []
    for (image_id, *sentences), members in groups.items():
        try:
            lines.append(line_of(images[image_id], sentences, members, names))
        except ValueError as error:
            raise InputError(
                f'{path}: annotation {members[0].get("id")!r} of image {image_id!r}, about {sentences[0]!r}, {error}'
            ) from error
    return lines, counts


def main(args: argparse.Namespace) -> int:
    with one_line_errors(OSError):
        check_file(args.out)
        if Path(args.out).exists():
            raise InputError(f'{args.out} exists: name a new file, or remove it')
        lines, counts = lines_of(args.file, args.key)
        if not lines:
            raise InputError(f'{args.file}: no annotation has a sentence as {args.key}: name its place by --key')
        with wrap_write_errors(args.out):
            atomic_write_text(args.out, '\n'.join(lines) + '\n')
    print(
        f'{args.out}: {len(lines):,} lines from {counts["with sentences"]:,} of {counts["annotations"]:,} annotations. '
        f'Check them next: python tools/dataset_converters/check.py {args.out} --images FOLDER'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main(ARGS))
