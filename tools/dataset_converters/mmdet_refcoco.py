"""Write prepared referring data in the form that mmdet's RefCocoDataset reads.

Usage:
    python tools/dataset_converters/mmdet_refcoco.py data/coco/prepared/refcoco_unc_*.safetensors \
        --out data/coco/mmdet/refcoco

makes instances.json (its `ann_file`) and refs.p (its `split_file`) with the splits of all the files.

mmdet keeps only one reference to an annotation, so every reference gets its own annotation, numbered from 1.
Masks become RLE. Only images that are referred to are listed.
"""

import argparse
import json
import pickle
from collections.abc import Iterable
from pathlib import Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('files', nargs='+', metavar='FILE', help='prepared files, one a split')
    parser.add_argument('--out', required=True, type=Path, help='folder to write')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from dit_sam.datasets import ReferringTable
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write, check_folder, wrap_write_errors


def mmdet_form(tables: Iterable[ReferringTable]) -> tuple[dict, list[dict]]:
    """The contents of instances.json and of refs.p.

    Raises:
        InputError: An image has a name for an id, which mmdet does not take, or a table has no split.
    """
    images, annotations, refs = {}, [], []
    for table in tables:
        split = table.header.get('split')
        if not split:
            raise InputError(
                f'a file has no split in its header, {table.header}: '
                'write it again by tools/dataset_converters/refcoco.py'
            )
        for row in range(table.rows('references')):
            item, (first, end) = table.reference(row), table.sentence_rows(row)
            image = images.setdefault(item['img_id'], _image(item))
            if image != _image(item):
                raise InputError(
                    f'{image["file_name"]} and {item["file_name"]} have one number, {item["img_id"]}, and COCO names '
                    'images by it: convert these files one by one'
                )
            common = dict(id=len(refs) + 1, image_id=image['id'], category_id=_number(item['category_id']))
            size, counts = item['segmentation']['size'], item['segmentation']['counts']
            annotations.append(dict(common, iscrowd=0, segmentation=dict(size=size, counts=counts.decode())))
            sentences = [_sentence(table, sentence) for sentence in range(first, end)]
            refs.append(
                dict(
                    ref_id=len(refs) + 1,
                    ann_id=common['id'],
                    image_id=image['id'],
                    split=split,
                    category_id=common['category_id'],
                    file_name=item['file_name'],
                    sent_ids=[one['sent_id'] for one in sentences],
                    sentences=sentences,
                )
            )
    categories = [dict(id=number, name=str(number)) for number in sorted({one['category_id'] for one in annotations})]
    return dict(images=list(images.values()), annotations=annotations, categories=categories), refs


def _image(item: dict) -> dict:
    if not isinstance(item['img_id'], int):
        raise InputError(f'image {item["img_id"]!r} has a name for an id, and mmdet needs a number')
    return dict(id=item['img_id'], file_name=item['file_name'], height=item['height'], width=item['width'])


def _sentence(table: ReferringTable, row: int) -> dict:
    """A sentence in REFER's form. mmdet reads `raw`, the text as its author typed it."""
    sentence = table.sentence(row)
    return dict(sent_id=sentence['sent_id'], sent=sentence['text'], raw=table.raw(row))


def _number(category: int | str | tuple) -> int:
    """The category if it is one number, else 0; mmdet does not use it."""
    return category if isinstance(category, int) else 0


def main(args: argparse.Namespace) -> None:
    with one_line_errors():
        check_folder(args.out)
        repeated = [file for number, file in enumerate(args.files) if file in args.files[:number]]
        if repeated:
            raise InputError(f'{repeated[0]} is named twice: name every file once')
        instances, refs = mmdet_form(map(ReferringTable.open, args.files))
        # Both files or neither, because they belong together.
        with wrap_write_errors(args.out / 'instances.json'), atomic_write(args.out / 'instances.json') as temporary:
            temporary.write_text(json.dumps(instances, ensure_ascii=False), encoding='utf-8')
            with wrap_write_errors(args.out / 'refs.p'), atomic_write(args.out / 'refs.p') as other:
                other.write_bytes(pickle.dumps(refs, protocol=4))
    splits = sorted({ref['split'] for ref in refs})
    print(f'{args.out}: {len(refs)} references to {len(instances["images"])} images, splits {", ".join(splits)}')


if __name__ == '__main__':
    main(ARGS)
