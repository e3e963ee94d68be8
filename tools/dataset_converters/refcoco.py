"""Prepare RefCOCO and its family: one file per split that opens at once, beside the published counts.

Usage:
    python tools/dataset_converters/refcoco.py data/coco --out data/coco/prepared
    python tools/dataset_converters/refcoco.py data/coco --out data/coco/prepared --images data/coco/train2014 \
        --check-images --workers 8

SRC holds the original downloads, a folder a data set: refcoco, refcoco+, refcocog and refclef with instances.json and
refs(*).p, grefcoco with instances.json and grefs(*).json, or any in their format. What is there is prepared, all of it
or, where a file is damaged, nothing. See docs/data.md.
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prettytable import PrettyTable
from rich.progress import track

from dit_sam.datasets import ReferringTable
from dit_sam.datasets.grefs import load_grefs
from dit_sam.datasets.images import find_image, image_problem, orientation_doubt
from dit_sam.datasets.instances import Instances, make_table
from dit_sam.datasets.refcoco import select_split, splits_of
from dit_sam.datasets.safe_pickle import load_refs
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors

COLUMNS = ('images', 'references', 'sentences', 'masks')
# COCO's under either name, and RefCLEF's.
IMAGE_FOLDERS = ('train2014', 'train2017', 'saiapr_tc-12')
# (data set, partition) -> split -> images, references, sentences, masks; None where nobody prints it.
# Images and references: https://www.tensorflow.org/datasets/catalog/ref_coco. Sentences, and all in sum: Yu et al.,
# "Modeling Context in Referring Expressions", ECCV 2016; Mao et al., CVPR 2016; Kazemzadeh et al., EMNLP 2014 (RefCLEF,
# before REFER cleaned it); https://github.com/henghuiding/gRefCOCO/issues/6 (gRefCOCO's file).
PUBLISHED = {
    ('refcoco', 'unc'): dict(
        train=(16994, 42404, 120624, None),
        val=(1500, 3811, 10834, None),
        testA=(750, 1975, 5657, None),
        testB=(750, 1810, 5095, None),
        all=(19994, 50000, 142210, 50000),
    ),
    ('refcoco', 'google'): dict(
        train=(19213, 40000, None, None),
        val=(4559, 5000, None, None),
        test=(4527, 5000, None, None),
        all=(19994, 50000, 142210, 50000),
    ),
    ('refcoco+', 'unc'): dict(
        train=(16992, 42278, 120191, None),
        val=(1500, 3805, 10758, None),
        testA=(750, 1975, 5726, None),
        testB=(750, 1798, 4889, None),
        all=(19992, 49856, 141564, 49856),
    ),
    ('refcocog', 'umd'): dict(
        train=(21899, 42226, 80512, None),
        val=(1300, 2573, 4896, None),
        test=(2600, 5023, 9602, None),
        all=(25799, 49822, 95010, 49822),
    ),
    ('refcocog', 'google'): dict(
        train=(24698, 44822, 85474, None), val=(4650, 5000, 9536, None), all=(25799, 49822, 95010, 49822)
    ),
    ('refclef', 'unc'): dict(all=(19894, None, 130525, 96654)),
    ('refclef', 'berkeley'): dict(all=(19894, None, 130525, 96654)),
    ('grefcoco', 'unc'): dict(all=(19994, None, 259859, None)),
}
REFCOCOG = (
    'the paper counts 26,711 images, 54,822 objects and 104,560 sentences, with a test split that was never published'
)
REFCLEF = "the counts are the paper's; the files were cleaned since and differ a little"
NOTES = {
    ('refcoco', 'unc'): 'testB: the paper prints 5,059 sentences, its files have 5,095',
    ('refcocog', 'umd'): REFCOCOG,
    ('refcocog', 'google'): REFCOCOG,
    ('refclef', 'unc'): REFCLEF,
    ('refclef', 'berkeley'): REFCLEF,
    ('grefcoco', 'unc'): 'the paper counts 278,232 sentences, of which the authors keep some back for a challenge',
}


class Source(NamedTuple):
    """The files of one partition of a data set."""

    dataset: str
    partition: str
    refs: Path
    instances: Path


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', type=Path, metavar='SRC', help='folder of the original downloads')
    parser.add_argument('--out', type=Path, required=True, metavar='DST', help='folder to write to')
    parser.add_argument(
        '--images',
        type=Path,
        action='append',
        metavar='DIR',
        help=f'folder of images, may be given again; default SRC/{", SRC/".join(IMAGE_FOLDERS)}',
    )
    parser.add_argument('--check-images', action='store_true', help='decode every image that the sets need')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='threads that check images')
    return parser.parse_args()


def find_sources(src: Path) -> list[Source]:
    """The reference files in SRC itself and in its folders, by data set.

    Raises:
        FileNotFoundError: When there are none, or instances.json is missing beside one.
        InputError: When two would be written to the same files.
    """
    if not src.is_dir():
        raise FileNotFoundError(f'{src} is no folder')
    folders = [src.resolve(), *sorted(path for path in src.iterdir() if path.is_dir())]
    sources = [
        Source(path.parent.name, path.name.partition('(')[2].partition(')')[0], path, path.with_name('instances.json'))
        for folder in folders
        for path in sorted([*folder.glob('refs(*).p'), *folder.glob('grefs(*).json')])
    ]
    if not sources:
        raise FileNotFoundError(
            f'{src} holds no refs(*).p or grefs(*).json, nor does a folder in it; docs/data.md says where to get them'
        )
    named: dict[tuple[str, str], Path] = {}
    for source in sources:
        if not source.instances.is_file():
            raise FileNotFoundError(f'{source.instances} not found, which belongs to {source.refs.name}')
        other = named.setdefault((source.dataset, source.partition), source.refs)
        if other != source.refs:
            raise InputError(
                f'{other} and {source.refs} would be written to the same files, '
                f'{source.dataset}_{source.partition}_*: give one of them a folder of another name'
            )
    return sources


def read_tables(sources: list[Source]) -> Iterator[tuple[Source, str, ReferringTable]]:
    """Every split of every partition. Masks are read once for the partitions of a data set."""
    instances, digest = None, ''
    for source in sources:
        if instances is None or instances.path != str(source.instances):
            instances, digest = Instances(str(source.instances)), sha256(source.instances)
        load = load_grefs if source.refs.suffix == '.json' else load_refs
        refs = load(str(source.refs))
        if not refs:
            raise InputError(f'{source.refs} holds no reference')
        origin = {source.refs.name: sha256(source.refs), source.instances.name: digest}
        for split in sorted(splits_of(refs), key=lambda name: (name != 'train', name != 'val', name)):
            if not re.fullmatch(r'\w+', split, re.ASCII):  # it becomes part of a file's name
                raise InputError(f'{source.refs} has a split named {split!r}: letters and digits are needed')
            selected = select_split(refs, split, str(source.refs))
            yield (
                source,
                split,
                make_table(
                    selected,
                    str(source.refs),
                    instances,
                    dataset=source.dataset,
                    partition=source.partition,
                    split=split,
                    source=origin,
                ),
            )


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counts_table(tables: list[tuple[Source, str, ReferringTable]]) -> tuple[PrettyTable, list[str]]:
    """What was found beside what is published, and remarks on it."""
    lines, remarks = PrettyTable(['data set', 'split', *COLUMNS], align='r'), []
    lines.align['data set'] = lines.align['split'] = 'l'
    for source in dict.fromkeys(source for source, _, _ in tables):
        key = (source.dataset, source.partition)
        found = {split: table.counts for of, split, table in tables if of is source}
        # A list, as a split may be called "all".
        rows = [*found.items(), ('all', total([table for of, _, table in tables if of is source]))]
        known = PUBLISHED.get(key, {})
        for place, (split, counts) in enumerate(rows, 1):
            published = known.get(split, (None,) * len(COLUMNS))
            cells = [cell(counts[column], number) for column, number in zip(COLUMNS, published)]
            lines.add_row([' '.join(key), split, *cells], divider=place == len(rows))
        missing = ', '.join(split for split in known if split not in (*found, 'all'))
        notes = [NOTES.get(key), missing and f'no split {missing}']
        remarks += [f'{" ".join(key)}: {note}' for note in notes if note]
    return lines, remarks


def total(tables: list[ReferringTable]) -> dict[str, int]:
    """Counts over splits; what lies in several, as RefCLEF's test sets do, is counted once."""
    found = {column: set() for column in COLUMNS}
    for table in tables:
        images = [table.value('images.id', row) for row in range(table.rows('images'))]
        targets = [table.value('targets.ann_id', row) for row in range(table.rows('targets'))]
        found['images'].update(images)
        found['references'].update(table.value('references.ref_id', row) for row in range(table.rows('references')))
        found['sentences'].update(table.value('sentences.sent_id', row) for row in range(table.rows('sentences')))
        pairs = zip(table.columns['references.image'], table.columns['references.target'])
        found['masks'].update((images[image], targets[target]) for image, target in pairs)
    return {column: len(ids) for column, ids in found.items()}


def cell(found: int, published: int | None) -> str:
    if published is None:
        return f'{found:,}'
    return f'{found:,} ✓' if found == published else f'{found:,} ≠ {published:,}'


def write(tables: list[tuple[Source, str, ReferringTable]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for source, split, table in tables:
        path = out / f'{source.dataset}_{source.partition}_{split}.safetensors'
        table.save(path)
        print(f'{path}: {path.stat().st_size / 1e3:,.0f} kB')


def image_folders(args: argparse.Namespace) -> list[Path]:
    """Raises FileNotFoundError when there is none, or one that was named is not there."""
    folders = args.images or [args.src / name for name in IMAGE_FOLDERS]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing and (args.images or missing == folders):
        raise FileNotFoundError(f'no folder of images at {" or ".join(map(str, missing))}: name it with --images')
    return [folder for folder in folders if folder not in missing]


def locate(name: str, folders: list[Path]) -> str:
    """The image in the first folder that has it, under either of COCO's names; in the first one where none has."""
    for folder in folders:
        with suppress(FileNotFoundError):
            return find_image(str(folder / name))
    return str(folders[0] / name)


def problem_of(path: str, height: int, width: int) -> str | None:
    """What is wrong with an image, or in doubt: its annotation is COCO's, and not of our own drawing."""
    return image_problem(path, height, width) or orientation_doubt(path)


def check_images(tables: list[ReferringTable], folders: list[Path], workers: int) -> int:
    """Print what is wrong with the images that the tables need; the number of those."""
    sizes = {
        table.value('images.file_name', row): tuple(table.value(f'images.{side}', row) for side in ('height', 'width'))
        for table in tables
        for row in range(table.counts['images'])
    }
    # Threads: OpenCV decodes without Python's lock, and a forked process may inherit a lock of OpenCV's that is held.
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda name: problem_of(locate(name, folders), *sizes[name]), sizes)
        problems = list(track(found, 'images', total=len(sizes)))
    bad = [f'{name} {problem}' for name, problem in zip(sizes, problems) if problem]
    where = ' and '.join(map(str, folders))
    print('\n'.join([*bad, f'{len(sizes):,} images in {where}: {len(bad):,} missing or of no use']))
    return len(bad)


def main() -> int:
    args = parse_args()
    with one_line_errors(OSError):
        if args.workers < 1:
            raise InputError(f'--workers must be 1 or more, got {args.workers}')
        if args.out.exists() and not args.out.is_dir():
            raise InputError(f'--out {args.out} is there and no folder: choose another one')
        folders = image_folders(args) if args.check_images else []
        tables = list(read_tables(find_sources(args.src)))
        lines, remarks = counts_table(tables)
        print('\n'.join([lines.get_string(), '✓ as published, ≠ the published number', *remarks]))
        write(tables, args.out)
        return int(bool(folders and check_images([table for _, _, table in tables], folders, args.workers)))


if __name__ == '__main__':
    sys.exit(main())
