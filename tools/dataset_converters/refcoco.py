"""Prepare RefCOCO and related data sets: one file per split that opens at once, and counts next to the published ones.

Usage:
    python tools/dataset_converters/refcoco.py data/coco --out data/coco/prepared
    python tools/dataset_converters/refcoco.py data/coco --out data/coco/prepared --check-images --workers 8

SRC holds the original downloads, one folder a data set: refcoco, refcoco+, refcocog and refclef with instances.json and
refs(*).p, grefcoco with instances.json and grefs(*).json, or any other in their format, R-RefCOCO and Ref-ZOM too. All
data sets in SRC are prepared; if a file is damaged, nothing is written. See docs/data.md.
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

# COCO's under either name, those of Ref-ZOM, and RefCLEF's.
IMAGE_FOLDERS = ('train2014', 'train2017', 'val2014', 'trainval2014', 'saiapr_tc-12')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('src', type=Path, metavar='SRC', help='folder of the original downloads')
    parser.add_argument('--out', type=Path, required=True, metavar='DST', help='folder to write to')
    folders = ', '.join(f'SRC/{name}' for name in IMAGE_FOLDERS)
    parser.add_argument('--images', type=Path, action='append', metavar='DIR', help=f'repeatable; default {folders}')
    parser.add_argument('--check-images', action='store_true', help='decode every image that the sets need')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='threads that check images')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

from prettytable import PrettyTable
from rich.progress import track

from dit_sam.datasets import ReferringTable
from dit_sam.datasets.images import find_image, image_problem, orientation_doubt
from dit_sam.datasets.instances import Instances, make_table
from dit_sam.datasets.refcoco import select_split, splits_of
from dit_sam.datasets.reference_files import load_any_refs
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_folder

COLUMNS = ('images', 'references', 'sentences', 'masks')
# Data set, partition, split; images, references, sentences, masks; - where no number is published.
# Images and references: https://www.tensorflow.org/datasets/catalog/ref_coco. Sentences, and all in sum: Yu et al.,
# "Modeling Context in Referring Expressions", ECCV 2016; Mao et al., CVPR 2016; Kazemzadeh et al., EMNLP 2014 (RefCLEF,
# before REFER cleaned it); https://github.com/henghuiding/gRefCOCO/issues/6 (gRefCOCO's file).
COUNTS = """
refcoco  unc      train 16994 42404 120624     -
refcoco  unc      val    1500  3811  10834     -
refcoco  unc      testA   750  1975   5657     -
refcoco  unc      testB   750  1810   5095     -
refcoco  unc      all   19994 50000 142210 50000
refcoco  google   train 19213 40000      -     -
refcoco  google   val    4559  5000      -     -
refcoco  google   test   4527  5000      -     -
refcoco  google   all   19994 50000 142210 50000
refcoco+ unc      train 16992 42278 120191     -
refcoco+ unc      val    1500  3805  10758     -
refcoco+ unc      testA   750  1975   5726     -
refcoco+ unc      testB   750  1798   4889     -
refcoco+ unc      all   19992 49856 141564 49856
refcocog umd      train 21899 42226  80512     -
refcocog umd      val    1300  2573   4896     -
refcocog umd      test   2600  5023   9602     -
refcocog umd      all   25799 49822  95010 49822
refcocog google   train 24698 44822  85474     -
refcocog google   val    4650  5000   9536     -
refcocog google   all   25799 49822  95010 49822
refclef  unc      all   19894     - 130525 96654
refclef  berkeley all   19894     - 130525 96654
grefcoco unc      all   19994     - 259859     -
"""
PUBLISHED: dict[tuple[str, str], dict[str, tuple[int | None, ...]]] = {}
for dataset, partition, split, *numbers in map(str.split, COUNTS.strip().splitlines()):
    PUBLISHED.setdefault((dataset, partition), {})[split] = tuple(None if n == '-' else int(n) for n in numbers)
# By data set, or data set and partition.
NOTES = {
    'refcoco unc': 'testB: the paper prints 5,059 sentences, its files have 5,095',
    'refcocog': 'the paper counts 26,711 images, 54,822 objects and 104,560 sentences, with an unpublished test split',
    'refclef': "the counts are the paper's; the files were cleaned later and differ a little",
    'grefcoco': 'the paper counts 278,232 sentences, of which the authors keep some for a challenge',
}
# The column that tells the rows of a table apart.
IDS = dict(images='id', targets='ann_id', references='ref_id', sentences='sent_id')


class Source(NamedTuple):
    """The files of one partition of a data set."""

    dataset: str
    partition: str
    refs: Path
    instances: Path


def find_sources(src: Path) -> list[Source]:
    """The reference files in SRC and in its folders, by data set.

    Raises:
        FileNotFoundError: There are none, or one has no instances.json in its folder.
        InputError: Two would be written to the same files.
    """
    if not src.is_dir():
        raise FileNotFoundError(f'{src} is not a folder')
    folders = [src.resolve(), *sorted(path for path in src.iterdir() if path.is_dir())]
    sources = [
        Source(path.parent.name, path.name.partition('(')[2].partition(')')[0], path, path.with_name('instances.json'))
        for folder in folders
        for path in sorted([*folder.glob('refs(*).p'), *folder.glob('grefs(*).json')])
    ]
    if not sources:
        raise FileNotFoundError(f'{src} and its folders hold no refs(*).p or grefs(*).json: docs/data.md has the links')
    named: dict[tuple[str, str], Path] = {}
    for source in sources:
        if not source.instances.is_file():
            raise FileNotFoundError(f'{source.instances} not found; {source.refs.name} needs it')
        other = named.setdefault((source.dataset, source.partition), source.refs)
        if other != source.refs:
            raise InputError(
                f'{other} and {source.refs} would be written to the same files, '
                f'{source.dataset}_{source.partition}_*: give one of them a folder of another name'
            )
    return sources


def read_tables(sources: list[Source]) -> Iterator[tuple[Source, str, ReferringTable]]:
    """Every split of every partition. Masks are read once for the partitions of a data set."""
    instances = None
    for source in sources:
        if instances is None or instances.path != str(source.instances):
            instances = Instances(str(source.instances))
        refs = load_any_refs(str(source.refs))
        if not refs:
            raise InputError(f'{source.refs} holds no reference: download it again')
        files = (source.refs, source.instances)
        origin = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        for split in sorted(splits_of(refs), key=lambda name: (name != 'train', name != 'val', name)):
            if not re.fullmatch(r'\w+', split, re.ASCII):  # it becomes part of a file's name
                raise InputError(f'{source.refs} has a split named {split!r}: rename it with letters and digits only')
            about = dict(dataset=source.dataset, partition=source.partition, split=split, source=origin)
            file = str(source.refs)
            yield source, split, make_table(select_split(refs, split, file), file, instances, **about)


def counts_table(tables: list[tuple[Source, str, ReferringTable]]) -> tuple[PrettyTable, list[str]]:
    """A table of the counts next to the published ones, and remarks."""
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
        notes = [NOTES.get(key[0]), NOTES.get(' '.join(key)), missing and f'no split {missing}']
        remarks += [f'{" ".join(key)}: {note}' for note in notes if note]
    return lines, remarks


def cell(found: int, published: int | None) -> str:
    mark = '' if published is None else ' ✓' if found == published else f' ≠ {published:,}'
    return f'{found:,}{mark}'


def total(tables: list[ReferringTable]) -> dict[str, int]:
    """Counts over splits; entries in several splits, as in RefCLEF's test sets, count once."""
    found: dict[str, set] = {column: set() for column in COLUMNS}
    for table in tables:
        ids = {
            name: [table.value(f'{name}.{key}', row) for row in range(table.rows(name))] for name, key in IDS.items()
        }
        masks = [ids['targets'][target] for target in table.columns['references.target']]
        ids['masks'] = [(ids['images'][image], mask) for image, mask in zip(table.columns['references.image'], masks)]
        # R-RefCOCO has references of one id, with and without a target.
        ids['references'] = list(zip(ids['references'], masks))
        for column in COLUMNS:
            found[column].update(ids[column])
    return {column: len(values) for column, values in found.items()}


def image_folders(args: argparse.Namespace) -> list[Path]:
    """The folders of images; some of the default ones may be missing."""
    folders = args.images or [args.src / name for name in IMAGE_FOLDERS]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing and (args.images or missing == folders):
        raise FileNotFoundError(f'no folder of images at {" or ".join(map(str, missing))}: name it by --images')
    return [folder for folder in folders if folder not in missing]


def locate(name: str, folders: list[Path]) -> str:
    """The image, under either of COCO's names, in the first folder that has it, else in the first folder."""
    for folder in folders:
        with suppress(FileNotFoundError):
            return find_image(str(folder / name))
    return str(folders[0] / name)


def check_images(tables: list[ReferringTable], folders: list[Path], workers: int) -> int:
    """Print the problems of the images of the tables; return the number of such images."""
    sizes = {
        table.value('images.file_name', row): (table.value('images.height', row), table.value('images.width', row))
        for table in tables
        for row in range(table.counts['images'])
    }

    def problem_of(name: str) -> str | None:
        path = locate(name, folders)
        return image_problem(path, *sizes[name]) or orientation_doubt(path)

    # Threads: OpenCV decodes without Python's lock, and a forked process may inherit a held lock of OpenCV.
    with ThreadPoolExecutor(workers) as pool:
        problems = list(track(pool.map(problem_of, sizes), 'images', total=len(sizes)))
    bad = [f'{name} {problem}' for name, problem in zip(sizes, problems) if problem]
    where = ' and '.join(map(str, folders))
    print(*bad, f'{len(sizes):,} images in {where}: {len(bad):,} missing or unusable', sep='\n')
    return len(bad)


def main(args: argparse.Namespace) -> int:
    with one_line_errors(OSError):
        if args.workers < 1:
            raise InputError(f'--workers must be 1 or more, got {args.workers}')
        check_folder(args.out)
        folders = image_folders(args) if args.check_images else []
        tables = list(read_tables(find_sources(args.src)))
        lines, remarks = counts_table(tables)
        print(lines, '✓ as published, ≠ the published number', *remarks, sep='\n')
        args.out.mkdir(parents=True, exist_ok=True)
        for source, split, table in tables:
            path = args.out / f'{source.dataset}_{source.partition}_{split}.safetensors'
            table.save(path)
            print(f'{path}: {path.stat().st_size / 1e3:,.0f} kB')
        return int(bool(folders and check_images([table for _, _, table in tables], folders, args.workers)))


if __name__ == '__main__':
    sys.exit(main(ARGS))
