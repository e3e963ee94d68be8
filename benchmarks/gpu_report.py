"""A page of tables about one GPU: parity, kernels, waits, speed, memory, compilation, loading.

Usage:
    python benchmarks/gpu_report.py --out gpu.md

The most important tables come first. After `--minutes` it ends. A row for which there was not enough time or memory, or
that failed, says so. Each table is printed when it is made, and the file written. All figures are from this run, and
compared programs take turns. `--device cpu --archs tiny --sizes 64` tries the program.

* Parity: relative deviation of L-DIT's encoder and of its gradients from the textbook's form in float64.
* Kernel: which of PyTorch's fused attention kernels runs for the heads of our encoder with their bias.
* Waits: how often the CPU waits for the GPU in a training step, of the encoder alone and of the whole model. A run adds
  one wait for each logged line.
* Speed: see encoder.py; the deviation is from TF32.
* Memory: the estimate of estimate_memory.py and the allocator's peak.
* Compiled: a training step with the blocks compiled, as `compile=True` does.
* Loading: items per second of RefCOCO's training pipeline, from JPEG files of 640 × 480.
"""

import argparse
import os
import signal
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from choices import BATCH, CONFIG_OF

from dit_sam_cli.arguments import positive

# Part: title and columns of its table.
TABLES = dict(
    parity=('Parity', 'encoder | arithmetic | form | features | gradients'),
    kernels=('Kernel of attention', 'encoder | blocks | width of a head | bfloat16 | float32'),
    waits=('Waits of a training step', 'step | waits'),
    speed=(
        'Speed',
        'encoder, images | case | type | forward (s) | of peak | training step (s) | of peak | memory (MB) | deviation',
    ),
    memory=('Memory of a training step, bfloat16 (GiB)', 'model | images | estimated | measured'),
    compiled=('Compiled blocks', 'encoder, images | step (s) | compiled (s) | times as fast | first step (s)'),
    loading=('Loading', 'processes | items/s | of each'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', help='cuda, cuda:N, or cpu to try the program')
    parser.add_argument('--minutes', type=float, default=8.0, help='time after which it ends')
    parser.add_argument(
        '--archs', nargs='+', choices=sorted(CONFIG_OF), default=['base', 'large', 'huge'], help='sizes of the encoder'
    )
    parser.add_argument('--sizes', nargs='+', type=positive, default=[512, 1024], help='sides of the images in pixels')
    parser.add_argument(
        '--batch',
        type=positive,
        default=BATCH,
        help='images of a step at the first size; other sizes get as many pixels',
    )
    parser.add_argument('--workers', nargs='+', type=positive, default=[4, 8], help='data-loading processes')
    parser.add_argument('--parts', nargs='+', choices=TABLES, default=list(TABLES), help='tables to make; default all')
    parser.add_argument('--out', type=Path, metavar='FILE', help='also write the page to this file')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import torch
from data_loading import write_photographs, write_set
from encoder import check
from gpu_tables import NO_MEMORY, TOKENS, Rows, compiled, free, kernel, loading, memory, parity, speed, waits
from measures import machine, one_line
from mmengine.registry import init_default_scope

from dit_sam.errors import show_traceback
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_file

NO_TIME = 'no time was left'
Run = Callable[[], Iterator[list[str]]]
Runs = dict[str, Run]


class OutOfTime(BaseException):
    """Not an `Exception`, which libraries may catch."""


class Clock:
    """The time since the start, of `minutes` in all."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.monotonic(), 60 * minutes

    @property
    def spent(self) -> float:
        return time.monotonic() - self.start

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Raise `OutOfTime` in the context when the time is over, as soon as Python gets control."""

        def stop(*_: object) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(self.seconds - self.spent, 1e-6))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def rows_of(name: str, run: Run, clock: Clock) -> Rows:
    """The rows that a run makes, and one that says why it did not make more."""
    rows: Rows = []
    try:
        with clock.limit():
            rows.extend(run())
        return rows
    except OutOfTime:
        reason = NO_TIME
    except torch.cuda.OutOfMemoryError:
        reason = NO_MEMORY
    # The other rows must be made: there may be no compiler, or another release of a reference.
    except Exception as error:
        show_traceback()
        reason = f'failed: {one_line(error)}'
    return [*rows, [name, reason]]


def section(part: str, runs: Runs, clock: Clock, on_gpu: bool) -> str:
    """A table in Markdown, row by row as time and memory allow."""
    title, columns = TABLES[part]
    lines = [columns.split(' | ')]
    lines.append(['---'] * len(lines[0]))
    for name, run in runs.items():
        lines += [[*row, *[''] * (len(lines[0]) - len(row))] for row in rows_of(name, run, clock)]
        if on_gpu:
            # After an error in a kernel, each call of CUDA raises it again.
            with suppress(RuntimeError):
                free()
        print(f'{clock.spent:6.0f} s  {title}: {name}', flush=True)
    return '\n'.join([f'## {title}', '', *(f'| {" | ".join(line)} |' for line in lines)])


def runs_of(args: argparse.Namespace, folder: Path) -> dict[str, Runs]:
    """The functions that make the rows of each part. Batches of all sizes have as many pixels as the first size's."""
    device, first = args.device, args.sizes[0]
    points = [(arch, size, max(args.batch * first**2 // size**2, 1)) for size in args.sizes for arch in args.archs]
    small = [point for point in points if point[1] == first]

    def runs(function: Callable[..., Iterator[list[str]]], points: list[tuple], batches: bool = True) -> Runs:
        return {
            f'ViT-{arch} {size}²': partial(function, arch, size, *[batch] * batches, device)
            for arch, size, batch in points
        }

    items = 32 if device == 'cpu' else 100
    return dict(
        parity=runs(parity, small, batches=False),
        kernels=runs(kernel, points, batches=False),
        # A CPU waits for no other device.
        waits={} if device == 'cpu' else {f'ViT-{arch}': partial(waits, arch, device) for arch in args.archs},
        speed={
            f'{name}, {case}': partial(run, case=case)
            for name, run in runs(speed, points).items()
            for case in ('ldit', 'sam')
        },
        memory=runs(memory, points),
        compiled=runs(compiled, small),
        loading={str(count): partial(loading, count, folder, items * count) for count in args.workers},
    )


def make_page(args: argparse.Namespace, folder: Path) -> None:
    """Print the page table by table, and write what there is of it to `--out`."""
    clock = Clock(args.minutes)
    if 'loading' in args.parts:
        write_set(folder, 64, 64, 64)
        write_photographs(folder / 'train2014', 64)
    made = [
        f'# {machine(args.device)}',
        f'{os.cpu_count()} CPU cores, {TOKENS} tokens of text. Written by `python benchmarks/gpu_report.py`.',
    ]
    print('\n\n'.join(made), flush=True)
    for part, runs in runs_of(args, folder).items():
        if part in args.parts and runs:
            made.append(section(part, runs, clock, args.device != 'cpu'))
            print(f'\n{made[-1]}\n', flush=True)
            if args.out:
                atomic_write_text(args.out, '\n\n'.join([*made, f'{clock.spent / 60:.1f} minutes.']) + '\n')


def main(args: argparse.Namespace) -> None:
    init_default_scope('mmseg')
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            check(Namespace(device=args.device, dtype='float32', size=size, json=None))
        if args.out:
            check_file(args.out)
        make_page(args, Path(folder))


if __name__ == '__main__':
    main(ARGS)
