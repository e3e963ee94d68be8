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
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_file, wrap_write_errors


def read_coco(path: str) -> tuple[dict, list[dict], dict]:
    """Images by id, annotations, and names of categories by id.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no COCO file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8-sig'))
        images = {image['id']: image for image in content['images']}
        if len(images) < len(content['images']):
            raise ValueError('two images have one id')
        names = {category['id']: category['name'] for category in content.get('categories', ())}
        annotations = [dict(annotation) for annotation in content['annotations']]
        for annotation in annotations:
            hash((annotation.get('image_id'), annotation.get('category_id')))
        return images, annotations, names
    except FileNotFoundError:
        raise FileNotFoundError(f'{path} not found: check the path') from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f'{path} is no COCO file with images, annotations and categories: {error!r}') from error


def sentences_of(annotation: dict, key: str, names: dict) -> list[str]:
    """The sentences of an annotation; none if it has none."""
    found: Any = dict(annotation, category=names.get(annotation.get('category_id')))
    for part in key.split('.'):
        found = found.get(part) if isinstance(found, dict) else None
    texts = found if isinstance(found, list) else [found]
    return list(dict.fromkeys(text.strip() for text in texts if isinstance(text, str) and text.strip()))


def joined(segmentations: list, height: int, width: int) -> Any:
    """Segmentations as one: their polygons, or the RLE of their union."""
    if not all(segmentations):
        raise ValueError('no segmentation')
    if len(segmentations) == 1:
        return segmentations[0]
    if all(isinstance(polygon, list) for one in segmentations for polygon in one):
        return [polygon for one in segmentations for polygon in one]
    counts = unite([encode_segmentation(one, height, width) for one in segmentations], height, width)
    return dict(size=[height, width], counts=counts.decode())


def lines_of(path: str, key: str) -> tuple[list[str], Counter]:
    """The lines of a COCO file, in the order of its annotations, and how many annotations have what.

    Raises:
        FileNotFoundError: There is no such file.
        InputError: It is no COCO file, or an annotation that has a sentence is malformed.
    """
    images, annotations, names = read_coco(path)
    groups: dict[tuple, list[dict]] = {}
    counts = Counter(annotations=len(annotations))
    for annotation in annotations:
        sentences = sentences_of(annotation, key, names)
        counts['with sentences'] += bool(sentences)
        if sentences:
            groups.setdefault((annotation.get('image_id'), *sentences), []).append(annotation)
    lines = []
    for (image_id, *sentences), members in groups.items():
        number = members[0].get('id')
        try:
            image = images[image_id]
            size = dict(height=image['height'], width=image['width'])
            segmentation = joined([member['segmentation'] for member in members], **size)
            record = dict(image=image['file_name'], sentences=sentences, segmentation=segmentation, **size)
            category = names.get(members[0].get('category_id'))
            record |= dict(kind=category) if isinstance(category, str) else {}
            line = json.dumps(record, ensure_ascii=False)
            _, problems = parse_line(line.encode())
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f'{path}: annotation {number} of image {image_id!r} cannot be used: {error!r}') from error
        if problems:
            raise InputError(f'{path}: annotation {number} of image {image_id!r} {problems[0]}')
        lines.append(line)
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
