"""What `dit-sam score` costs: `benchmarks/score_masks.py [--sentences N] [--json FILE]`.

Writes a data set with as many objects as RefCOCO's, polygons in pictures of 640 x 480 pixels, and a prediction for each
sentence, its true mask moved by some pixels. Then it scores them as a user does, in a process of its own on one thread,
with all protocols, intervals and groups, and prints the process's time and memory.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dit_sam_cli.arguments import positive


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # RefCOCO's val split has 10,834 sentences on 1,500 pictures, for 3,811 objects.
    parser.add_argument(
        '--sentences', type=positive, default=10834, help='number of sentences; a third as many objects'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import numpy as np
from data_loading import write_set
from measures import write_json

from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.scoring import Truths, open_data
from dit_sam.utils import encode_rle


def write(folder: Path, sentences: int) -> None:
    """Write the data, and as predictions the true masks, moved to the right by up to 20 pixels."""
    objects = max(1, sentences // 3)
    # RefCOCO's instances.json has 196,771 objects, most of which no reference names.
    write_set(folder, max(1, objects * 2 // 5), objects, sentences, others=max(0, 196771 - objects))
    truths = Truths(open_data(str(folder / 'instances.json'), str(folder / 'refs(unc).p'), 'train'))
    rng = np.random.default_rng(0)
    with open(folder / 'predictions.jsonl', 'w') as file:
        for row in range(len(truths)):
            mask = np.roll(truths.of_row(row).original, rng.integers(21), axis=1)
            line = dict(sent_id=truths.info(row)['sent_id'], segmentation=encode_rle(mask))
            file.write(json.dumps(line) + '\n')


def measure(folder: Path) -> dict[str, float]:
    """Seconds, CPU seconds and the largest memory of the process."""
    command = [sys.executable, '-m', 'dit_sam_cli', 'score', folder / 'predictions.jsonl']
    command += ['--data', folder / 'instances.json', '--refs', folder / 'refs(unc).p', '--split', 'train']
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit('error: dit-sam score failed, see above')
    cpu = usage.ru_utime + usage.ru_stime
    return dict(seconds=time.perf_counter() - start, cpu_seconds=cpu, megabytes=usage.ru_maxrss / 1e3)


def main(args: argparse.Namespace) -> None:
    with one_line_errors(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # In a process of its own: a process starts with the largest memory of the one that starts it.
        writer = multiprocessing.get_context('spawn').Process(target=write, args=(folder, args.sentences))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit('error: the data were not written, see above')
        figures = dict(sentences=args.sentences, **measure(folder))
    print(
        f'{args.sentences:,} sentences: {figures["seconds"]:.1f} s, {figures["cpu_seconds"]:.1f} s of a core, '
        f'{args.sentences / figures["cpu_seconds"]:.0f} sentences a second and core, {figures["megabytes"]:.0f} MB'
    )
    write_json(args.json, figures)


if __name__ == '__main__':
    main(ARGS)
