"""Time and memory of opening a referring data set: `benchmarks/data_loading.py [--json FILE]`.

Writes a data set of RefCOCO's size in the original format and prepares it. Opens the prepared and the original files,
and the original ones with mmdet's RefCocoDataset, each in fresh processes.

Seconds and memory are those of the data set alone, above the process after its imports. "Peak" is the most memory that
opening takes. "Worker" is the memory that a forked data-loading worker owns after it has visited every item; it shares
the rest. The files are in the page cache when they are opened. Linux only.
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
from typing import Any

READERS = ('prepared', 'original', 'mmdet')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0].partition(':')[0])
    parser.add_argument('--masks', type=int, default=50000, help='masks, each of one reference')
    parser.add_argument('--sentences', type=int, default=142210, help='sentences')
    parser.add_argument('--images', type=int, default=19994, help='images')
    parser.add_argument(
        '--others', type=int, default=0, help='annotations without a reference; RefCOCO has 146,771 (196,771 - 50,000)'
    )
    parser.add_argument('--repeat', type=int, default=3, help='processes for each; the median is printed')
    parser.add_argument(
        '--folder', type=Path, help='new or empty folder that keeps the data set; default a temporary one'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    parser.add_argument('--measure', choices=READERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.masks, args.images, args.repeat) < 1 or args.sentences < args.masks or args.others < 0:
        parser.error('at least one image, mask and repeat, and as many sentences as masks, are needed')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import cv2
import numpy as np
from measures import write_json
from prettytable import PrettyTable

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_file, check_folder, wrap_write_errors

WORDS = 'man woman left right red blue shirt the in on second from front back chair dog with hat near pizza'.split()
PREPARED = 'prepared.safetensors'
# The fields of COCO's images and annotations that are the same for all entries here.
IMAGE = dict(license=1, height=480, width=640, date_captured='2013-11-16 17:01:27')
ANNOTATION = dict(area=1000.5, iscrowd=0, bbox=[10.5, 20.25, 200.75, 150.5], category_id=1)
MEASURES = ('seconds', 'memory_mb', 'peak_mb', 'worker_mb')
MB = 1e6


def write_set(folder: Path, images: int, masks: int, sentences: int, others: int = 0, split: str = 'train') -> None:
    """Write annotations and references of these sizes in REFER's format, all of them in one split.

    Polygons have 27 points on average, which the 121 MB of RefCOCO's instances.json for 196,771 annotations suggest;
    sentences have 3.5 words.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    listed = [
        dict(IMAGE, id=number, file_name=image_name(number), coco_url=f'http://mscoco.org/images/{number}')
        for number in range(1, images + 1)
    ]
    annotations = [
        dict(ANNOTATION, id=number + 1, image_id=number % images + 1, segmentation=[polygon(rng)])
        for number in range(masks + others)
    ]
    categories = [dict(id=1, name='person', supercategory='person')]
    content = dict(images=listed, annotations=annotations, categories=categories)
    (folder / 'instances.json').write_text(json.dumps(content))
    refs = []
    for number in range(masks):
        image, ids = number % images + 1, list(range(sentences * number // masks, sentences * (number + 1) // masks))
        ref = dict(ref_id=number, ann_id=number + 1, image_id=image, file_name=image_name(image), category_id=1)
        refs.append(dict(ref, split=split, sent_ids=ids, sentences=[sentence(rng, sent_id) for sent_id in ids]))
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))


def image_name(number: int) -> str:
    return f'COCO_train2014_{number:012d}.jpg'


def write_photographs(folder: Path, images: int) -> None:
    """Write the images of `write_set`: JPEG files as large as most of COCO's, in pixels and, about, in bytes."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(1, images + 1):
        cv2.imwrite(str(folder / image_name(number)), photograph(rng), [cv2.IMWRITE_JPEG_QUALITY, 92])


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Random structures of several sizes, with camera noise."""
    picture = 120 + rng.normal(0, 8, (480, 640, 1)).astype(np.float32)
    for side, strength in ((8, 50), (32, 30), (128, 18)):
        coarse = rng.normal(0, strength, (side * 3 // 4, side, 3)).astype(np.float32)
        picture = picture + cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 255).astype(np.uint8)


def polygon(rng: np.random.Generator) -> list[float]:
    """A star around a random center in an image of 480 x 640 pixels."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, max(4, int(rng.gamma(2, 13.5)))))
    radii = rng.uniform(10, 110) * rng.uniform(0.7, 1, len(angles))
    center = (320, 240) + (200, 120) * rng.uniform(-1, 1, 2)
    points = center + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.round(2).ravel().tolist()


def sentence(rng: np.random.Generator, sent_id: int) -> dict:
    tokens = [WORDS[word] for word in rng.integers(len(WORDS), size=rng.integers(2, 6))]
    return dict(tokens=tokens, raw=' '.join(tokens), sent_id=sent_id, sent=' '.join(tokens))


def open_set(reader: str, folder: str) -> Any:
    """Open the data set in a folder."""
    if reader == 'mmdet':
        from mmdet.datasets import RefCocoDataset

        return RefCocoDataset(folder, 'instances.json', 'refs(unc).p', dict(img_path='train2014/'))
    from dit_sam.datasets import RefCOCODataset, ReferringDataset

    if reader == 'prepared':
        return ReferringDataset(PREPARED, folder)
    return RefCOCODataset(folder, 'instances.json', 'refs(unc).p')


def measure(reader: str, folder: str) -> dict[str, float]:
    """Seconds and memory of opening a set in this process, which must be a fresh one."""
    import mmdet.datasets  # noqa: F401

    import dit_sam.datasets  # noqa: F401

    gc.collect()
    # Resets the peak, which the imports have increased.
    Path('/proc/self/clear_refs').write_text('5')
    before = process_memory('status', 'VmRSS:')
    start = time.perf_counter()
    dataset = open_set(reader, folder)
    seconds = time.perf_counter() - start
    gc.collect()
    return dict(
        seconds=seconds,
        memory_mb=(process_memory('status', 'VmRSS:') - before) / MB,
        peak_mb=(process_memory('status', 'VmHWM:') - before) / MB,
        worker_mb=worker_memory(dataset) / MB,
    )


def process_memory(file: str, field: str) -> int:
    """Bytes in the fields of a file in /proc/self whose names begin like this."""
    lines = Path('/proc/self', file).read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def worker_memory(dataset: Any) -> int:
    """Bytes that a forked process owns after visiting all items, as a data-loading worker does."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            before = process_memory('smaps_rollup', 'Private_')
            deque(map(dataset.get_data_info, range(len(dataset))), maxlen=0)
            os.write(writing, str(process_memory('smaps_rollup', 'Private_') - before).encode())
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
    """Sizes of the set in a folder and of its files, and the figures of all readers."""
    sizes = {name: getattr(args, name) for name in ('masks', 'sentences', 'images', 'others')}
    files = {path.name: path.stat().st_size / MB for path in sorted(folder.iterdir())}
    return dict(sizes, files_mb=files, figures={reader: run(reader, folder, args.repeat) for reader in READERS})


def table(figures: dict[str, dict[str, float]]) -> str:
    lines = PrettyTable(['reader', 'seconds', 'memory (MB)', 'peak (MB)', 'worker (MB)', 'time', 'memory'], align='r')
    lines.align['reader'] = 'l'
    for reader, row in figures.items():
        ratios = [f'{row[name] / figures["mmdet"][name]:.3f} x mmdet' for name in ('seconds', 'memory_mb')]
        lines.add_row([reader, f'{row["seconds"]:.2f}', *(f'{row[name]:.0f}' for name in MEASURES[1:]), *ratios])
    return lines.get_string()


def check(args: argparse.Namespace) -> None:
    """Check the files and folders to write to.

    Raises:
        InputError: A place cannot be written to, or the folder has files, which may be a data set of the same names.
    """
    if args.json:
        check_file(args.json)
    if args.folder:
        check_folder(args.folder)
        if args.folder.is_dir() and any(args.folder.iterdir()):
            raise InputError(f'--folder {args.folder} is not empty, and no file in it is replaced: name a new one')


def main(args: argparse.Namespace) -> None:
    if args.measure:
        print(json.dumps(measure(args.measure, str(args.folder))))
        return
    with one_line_errors(), tempfile.TemporaryDirectory() as temporary:
        check(args)
        folder = args.folder or Path(temporary)
        with wrap_write_errors(folder):
            write_set(folder, args.images, args.masks, args.sentences, args.others)
            open_set('original', str(folder)).table.save(folder / PREPARED)
        result = benchmark(folder, args)
    print(
        f'{args.masks:,} masks, {args.sentences:,} sentences, {args.images:,} images, {args.others:,} further '
        f'annotations; ' + ', '.join(f'{name} {size:.1f} MB' for name, size in result['files_mb'].items())
    )
    print(table(result['figures']))
    write_json(args.json, result)


if __name__ == '__main__':
    main(ARGS)
