"""What it costs to open a referring data set: ``tools/analysis_tools/benchmark_datasets.py [--json FILE]``.

Writes a set of RefCOCO's size in the original format, prepares it, and opens both, and the original with mmdet's
RefCocoDataset, each in fresh processes. Seconds and memory are those of the data set alone, above the process after its
imports; "peak" is the most that it took while opening. "Worker" is what a forked data-loading worker that visits every
item comes to own; the rest it shares. The files are in the page cache when they are opened. Linux only.
"""

import argparse
import gc
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median

import numpy as np
from prettytable import PrettyTable

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_file, check_folder, write_whole, writing_to

WORDS = 'man woman left right red blue shirt the in on second from front back chair dog with hat near pizza'.split()
PREPARED = 'prepared.safetensors'
MEASURES = ('seconds', 'memory_mb', 'peak_mb', 'worker_mb')
MB = 1e6


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(':')[0])
    parser.add_argument('--masks', type=int, default=50000, help='masks, each of one reference')
    parser.add_argument('--sentences', type=int, default=142210, help='sentences')
    parser.add_argument('--images', type=int, default=19994, help='images')
    parser.add_argument(
        '--others',
        type=int,
        default=0,
        help='further annotations that nothing refers to; RefCOCO has 146,771 (196,771 less 50,000)',
    )
    parser.add_argument('--repeat', type=int, default=3, help='processes for each; the median is printed')
    parser.add_argument(
        '--folder', type=Path, help='new or empty folder where to write the set and keep it; default a temporary one'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    parser.add_argument('--measure', choices=READERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.masks, args.images, args.repeat) < 1 or args.sentences < args.masks or args.others < 0:
        parser.error('at least one image, mask and repeat, and as many sentences as masks, are needed')
    return args


def write_set(folder: Path, images: int, masks: int, sentences: int, others: int) -> None:
    """A set of these sizes in REFER's format, all of it in the training split.

    Polygons have 27 points on average, as the 121 MB of RefCOCO's instances.json for 196,771 annotations make likely;
    sentences have 3.5 words.
    """
    rng = np.random.default_rng(0)
    names = [f'COCO_train2014_{number:012d}.jpg' for number in range(1, images + 1)]
    annotations = [
        dict(
            segmentation=[polygon(rng)],
            area=1000.5,
            iscrowd=0,
            image_id=number % images + 1,
            bbox=[10.5, 20.25, 200.75, 150.5],
            category_id=1,
            id=number + 1,
        )
        for number in range(masks + others)
    ]
    content = dict(
        images=[
            dict(
                license=1,
                file_name=name,
                coco_url=f'http://mscoco.org/images/{number}',
                height=480,
                width=640,
                date_captured='2013-11-16 17:01:27',
                id=number,
            )
            for number, name in enumerate(names, 1)
        ],
        annotations=annotations,
        categories=[dict(id=1, name='person', supercategory='person')],
    )
    (folder / 'instances.json').write_text(json.dumps(content))
    refs, first = [], 0
    for number in range(masks):
        end = sentences * (number + 1) // masks
        refs.append(
            dict(
                sent_ids=list(range(first, end)),
                file_name=names[number % images],
                ann_id=number + 1,
                ref_id=number,
                image_id=number % images + 1,
                split='train',
                category_id=1,
                sentences=[sentence(rng, sent_id) for sent_id in range(first, end)],
            )
        )
        first = end
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))


def polygon(rng: np.random.Generator) -> list[float]:
    """A star around a place in an image of 480 x 640 pixels."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, max(4, int(rng.gamma(2, 13.5)))))
    radii = rng.uniform(10, 110) * rng.uniform(0.7, 1, len(angles))
    points = np.stack(
        [
            320 + 200 * rng.uniform(-1, 1) + radii * np.cos(angles),
            240 + 120 * rng.uniform(-1, 1) + radii * np.sin(angles),
        ],
        axis=1,
    )
    return points.round(2).ravel().tolist()


def sentence(rng: np.random.Generator, sent_id: int) -> dict:
    tokens = [WORDS[word] for word in rng.integers(len(WORDS), size=rng.integers(2, 6))]
    return dict(tokens=tokens, raw=' '.join(tokens), sent_id=sent_id, sent=' '.join(tokens))


def read_prepared(folder: str) -> object:
    from dit_sam.datasets import ReferringDataset

    return ReferringDataset(PREPARED, folder)


def read_original(folder: str) -> object:
    from dit_sam.datasets import RefCOCODataset

    return RefCOCODataset(folder, 'instances.json', 'refs(unc).p')


def read_by_mmdet(folder: str) -> object:
    from mmdet.datasets import RefCocoDataset

    return RefCocoDataset(folder, 'instances.json', 'refs(unc).p', dict(img_path='train2014/'))


READERS = {'prepared': read_prepared, 'original': read_original, 'mmdet': read_by_mmdet}


def measure(reader: str, folder: str) -> dict[str, float]:
    """Open a set in this process, which has done nothing but its imports."""
    import mmdet.datasets  # noqa: F401

    import dit_sam.datasets  # noqa: F401

    gc.collect()
    # The peak begins anew: the imports took more for a while.
    Path('/proc/self/clear_refs').write_text('5')
    before = status('VmRSS')
    start = time.perf_counter()
    dataset = READERS[reader](folder)
    seconds = time.perf_counter() - start
    gc.collect()
    return dict(
        seconds=seconds,
        memory_mb=(status('VmRSS') - before) / MB,
        peak_mb=(status('VmHWM') - before) / MB,
        worker_mb=worker_memory(dataset) / MB,
    )


def status(field: str) -> int:
    """Bytes of this process that are in memory (VmRSS), or were at most (VmHWM)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{field}:'))


def private() -> int:
    """Bytes that this process shares with no other."""
    lines = Path('/proc/self/smaps_rollup').read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('Private_'))


def worker_memory(dataset: object) -> int:
    """Bytes that a forked process comes to own by visiting all items, as a data-loading worker does."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            before = private()
            deque(map(dataset.get_data_info, range(len(dataset))), maxlen=0)
            os.write(writing, str(private() - before).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        return int(pipe.read())


def run(reader: str, folder: Path, repeat: int) -> dict[str, float]:
    """The medians of fresh processes, one after another."""
    command = [sys.executable, __file__, '--measure', reader, '--folder', str(folder)]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for _ in range(repeat)
    ]
    return {name: median(figures[name] for figures in runs) for name in MEASURES}


def benchmark(folder: Path, args: argparse.Namespace) -> dict:
    """Measure all readers of the set in a folder."""
    sizes = {path.name: path.stat().st_size / MB for path in sorted(folder.iterdir())}
    figures = {reader: run(reader, folder, args.repeat) for reader in READERS}
    return dict(
        masks=args.masks,
        sentences=args.sentences,
        images=args.images,
        others=args.others,
        files_mb=sizes,
        figures=figures,
    )


def table(figures: dict[str, dict[str, float]]) -> str:
    lines = PrettyTable(['reader', 'seconds', 'memory (MB)', 'peak (MB)', 'worker (MB)', 'time', 'memory'], align='r')
    lines.align['reader'] = 'l'
    for reader, row in figures.items():
        ratios = [f'{row[name] / figures["mmdet"][name]:.3f} x mmdet' for name in ('seconds', 'memory_mb')]
        lines.add_row([reader, f'{row["seconds"]:.2f}', *(f'{row[name]:.0f}' for name in MEASURES[1:]), *ratios])
    return lines.get_string()


def check(args: argparse.Namespace) -> None:
    """Refuse places that cannot be written to.

    Raises:
        InputError: See above; or the folder has files, which may be a data set of the same names.
    """
    if args.json:
        check_file(args.json)
    if args.folder:
        check_folder(args.folder)
        if args.folder.is_dir() and any(args.folder.iterdir()):
            raise InputError(f'--folder {args.folder} is not empty, and nothing in it is replaced: name a new one')


def main() -> None:
    args = parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, str(args.folder))))
        return
    with one_line_errors(), tempfile.TemporaryDirectory() as temporary:
        check(args)
        folder = args.folder or Path(temporary)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            write_set(folder, args.images, args.masks, args.sentences, args.others)
            read_original(str(folder)).table.save(folder / PREPARED)
        result = benchmark(folder, args)
    print(
        f'{args.masks:,} masks, {args.sentences:,} sentences, {args.images:,} images, {args.others:,} further '
        f'annotations; ' + ', '.join(f'{name} {size:.1f} MB' for name, size in result['files_mb'].items())
    )
    print(table(result['figures']))
    if args.json:
        with one_line_errors():
            write_whole(args.json, json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
