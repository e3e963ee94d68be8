"""Our encoders beside the textbook's, segment_anything's and transformers': time, memory, FLOPs, in one run.

Usage:
    python tools/analysis_tools/benchmark.py --arch base --size 512 --json base_512.json
    python tools/analysis_tools/benchmark.py --arch base --size 1024 --cases sam --measures forward
    python tools/analysis_tools/benchmark.py --arch huge --size 1024 --device cuda --dtype bfloat16 --batch 4

All run once a round, one after another, and the median over the rounds counts, so that a machine with other work is
fair to all; first the rounds of forward passes, then those of training steps, as whoever trains or predicts does one of
them. bfloat16 is autocast over float32 weights; a CPU without arithmetic for it leaves it out. A training step is
forward and backward. Memory is what tensors take beside the weights: activations and gradients. The peak is the fastest
product of large matrices in any round, and the share of it counts what the equations need, thrice that in training.
Ratios above 1 are in our favour. What a GPU's memory does not hold is left blank.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from encoders import CASES, build, features, inputs, ours
from measures import flops, gemm_rate, machine, peak_memory, seconds
from mmengine.registry import init_default_scope
from prettytable import PrettyTable
from torch import Tensor, nn

from dit_sam.compat import has_bfloat16
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models import SAMViT
from dit_sam.utils import check_file, write_whole

DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16)
MEASURES = ('forward', 'train', 'memory')
# Key of a row: title and format in the table.
COLUMNS = dict(
    forward_s=('forward (s)', '.4f'),
    train_step_s=('train step (s)', '.4f'),
    memory_mb=('train memory (MB)', '.0f'),
    needed_gflops=('GFLOP needed', '.1f'),
    forward_of_peak=('forward of peak', '.0%'),
    train_of_peak=('train of peak', '.0%'),
    deviation=('deviation', '.1e'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', choices=sorted(SAMViT.ARCHITECTURES), default='base', help='size of the encoder')
    parser.add_argument('--size', type=positive, default=512, help='side of the images in pixels, a multiple of 16')
    parser.add_argument('--tokens', type=positive, default=20, help='tokens of a sentence')
    parser.add_argument('--batch', type=positive, default=1, help='pairs of image and sentence')
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N')
    parser.add_argument('--dtype', choices=DTYPES, default='float32', help='the one that the ratios are about')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), help='which encoders; default all')
    parser.add_argument(
        '--measures', nargs='+', choices=MEASURES, default=MEASURES, help='what to measure; default all'
    )
    parser.add_argument('--rounds', type=positive, default=5, help='rounds, after one that does not count')
    parser.add_argument('--compile', action='store_true', help='torch.compile all of them, without graph breaks')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser.parse_args()


def positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{value} is not positive')
    return number


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot run; a device with a number becomes the current one, as what waits and counts memory asks it.

    Raises:
        InputError: There is no such device, images are not cut into whole patches, or the file for the figures cannot
            be written.
    """
    if args.device not in ('cpu', 'cuda', *(f'cuda:{number}' for number in range(torch.cuda.device_count()))) or (
        args.device == 'cuda' and not torch.cuda.is_available()
    ):
        raise InputError(
            f'--device {args.device} is not there; this machine has '
            f'{"cuda and cpu" if torch.cuda.is_available() else "cpu"}'
        )
    if args.device.startswith('cuda:'):
        torch.cuda.set_device(args.device)
    check_dtype(args.dtype, args.device)
    if args.size % 16:
        raise InputError(f'--size {args.size} is no multiple of 16, the side of a patch')
    if args.json:
        check_file(args.json)


def check_dtype(dtype: str, device: str) -> None:
    """
    Raises:
        InputError: The device has no arithmetic for the dtype.
    """
    if dtype not in dtypes_of(device):
        raise InputError(f'--dtype {dtype}: this CPU has no {dtype} arithmetic, and would take many times as long')


def dtypes_of(device: str) -> list[str]:
    """What to measure on a device."""
    return [dtype for dtype in DTYPES if dtype != 'bfloat16' or has_bfloat16(device.partition(':')[0])]


def steps(model: nn.Module, forward: Callable[[], Tensor], dtype: str, device: str) -> dict[str, Callable]:
    """A forward pass without gradients, and a training step of the model, as functions."""

    def run() -> Tensor:
        with torch.autocast(device.partition(':')[0], torch.bfloat16, enabled=dtype == 'bfloat16'):
            return forward()

    def train() -> None:
        try:
            run().float().square().mean().backward()
        finally:
            model.zero_grad()

    return dict(forward=torch.no_grad()(run), train=train)


def if_it_fits(function: Callable[[], Any]) -> Any:
    """What a call gives; None where the GPU's memory does not hold it."""
    try:
        return function()
    except torch.cuda.OutOfMemoryError:
        pass
    # Behind the `except`: the error keeps the tensors of the call alive.
    torch.cuda.empty_cache()
    return None


def measure_case(case: str, args: argparse.Namespace, peaks: dict[str, float]) -> list[dict]:
    """A row for each encoder of a case and each of its dtypes; `peaks`, FLOP/s by dtype, are raised where surpassed."""
    with torch.device(args.device):
        models = build(case, args.arch, args.size)
    images, text = inputs(args.size, args.tokens, args.batch, args.device)
    runs = {}
    for name, model in models.items():
        if args.compile:
            model.compile(fullgraph=name == 'ours')
        # The references run as fast as they can: beside bfloat16 in float32, which is TF32 on GPUs.
        for dtype in dtypes_of(args.device) if name == 'ours' else dict.fromkeys([args.dtype, 'float32']):
            runs[name, dtype] = steps(model, partial(features, model, images, text), dtype, args.device)
    deviation = deviations({key: run['forward'] for key, run in runs.items()})
    times = take_times(runs, args, peaks)
    rows = []
    for (name, dtype), run in runs.items():
        rows.append(dict(case=case, encoder=name, dtype=dtype, **times[name, dtype]))
        if (name, dtype) in deviation:
            rows[-1]['deviation'] = deviation[name, dtype]
        if 'memory' in args.measures:
            memory = if_it_fits(partial(peak_memory, run['train'], args.device))
            rows[-1].update({} if memory is None else dict(memory_mb=memory))
    return rows


def deviations(forwards: dict[tuple[str, str], Callable[[], Tensor]]) -> dict[tuple[str, str], float]:
    """Relative deviation of each encoder from ours in float32; this is also their warm-up."""
    exact = forwards['ours', 'float32']().double()
    outputs = {key: if_it_fits(forward) for key, forward in forwards.items()}
    return {
        key: ((output - exact).norm() / exact.norm()).item() for key, output in outputs.items() if output is not None
    }


def take_times(runs: dict, args: argparse.Namespace, peaks: dict[str, float]) -> dict[tuple, dict[str, float]]:
    """Medians over the rounds, by encoder and dtype."""
    names = dict(forward='forward_s', train='train_step_s')
    measures = [measure for measure in names if measure in args.measures]
    times = {key: {names[measure]: [] for measure in measures} for key in runs}
    for measure, _ in product(measures, range(args.rounds + 1)):
        for key, run in runs.items():
            if None not in times[key][names[measure]]:
                times[key][names[measure]].append(if_it_fits(partial(seconds, run[measure], args.device)))
        for dtype in {dtype for _, dtype in runs}:
            peaks[dtype] = max(peaks.get(dtype, 0.0), gemm_rate(args.device, DTYPES[dtype]))
    return {
        key: {name: median(values[1:]) for name, values in figures.items() if None not in values}
        for key, figures in times.items()
    }


def _one_pass(case: str, args: argparse.Namespace) -> Tensor:
    return features(ours(case, args.arch, args.size), *inputs(args.size, args.tokens))


def add_shares(rows: list[dict], args: argparse.Namespace, peaks: dict[str, float]) -> None:
    """Add FLOPs, and what the needed ones are of the peak."""
    for case in dict.fromkeys(row['case'] for row in rows):
        needed = args.batch * flops(partial(_one_pass, case, args))
        for row in (row for row in rows if row['case'] == case):
            peak = peaks.get(row['dtype'])
            row['needed_gflops'] = needed / 1e9
            if 'forward_s' in row:
                row['forward_of_peak'] = needed / row['forward_s'] / peak
            if 'train_step_s' in row:
                row['train_of_peak'] = 3 * needed / row['train_step_s'] / peak


def ratios(rows: list[dict], dtype: str) -> dict[str, float]:
    """How many times faster and smaller ours is, where both were measured; of a reference's dtypes the faster one."""

    def figures(case: str, encoder: str, measure: str, dtypes: Iterable[str] = DTYPES) -> list[float]:
        return [
            row[measure]
            for row in rows
            if (row['case'], row['encoder']) == (case, encoder) and row['dtype'] in dtypes and measure in row
        ]

    pairs = dict(
        forward_vs_textbook=(figures('ldit', 'textbook', 'forward_s'), figures('ldit', 'ours', 'forward_s', [dtype])),
        train_step_vs_textbook=(
            figures('ldit', 'textbook', 'train_step_s'),
            figures('ldit', 'ours', 'train_step_s', [dtype]),
        ),
        memory_vs_textbook=(
            figures('ldit', 'textbook', 'memory_mb', [dtype]),
            figures('ldit', 'ours', 'memory_mb', [dtype]),
        ),
        sam_forward_vs_segment_anything=(
            figures('sam', 'segment_anything', 'forward_s'),
            figures('sam', 'ours', 'forward_s', [dtype]),
        ),
        sam_forward_vs_transformers=(
            figures('sam', 'transformers', 'forward_s'),
            figures('sam', 'ours', 'forward_s', [dtype]),
        ),
        bf16_vs_fp32=(
            figures('ldit', 'ours', 'forward_s', ['float32']),
            figures('ldit', 'ours', 'forward_s', ['bfloat16']),
        ),
    )
    return {name: min(theirs) / min(mine) for name, (theirs, mine) in pairs.items() if theirs and mine}


def table(rows: list[dict]) -> str:
    """The rows for reading."""
    columns = {key: titled for key, titled in COLUMNS.items() if any(key in row for row in rows)}
    lines = PrettyTable(['case', 'encoder', 'dtype', *(title for title, _ in columns.values())], align='r')
    for column in ('case', 'encoder', 'dtype'):
        lines.align[column] = 'l'
    for row in rows:
        lines.add_row(
            [
                row['case'],
                row['encoder'],
                row['dtype'],
                *(format(row[key], style) if key in row else '' for key, (_, style) in columns.items()),
            ]
        )
    return lines.get_string()


def main() -> None:
    args = parse_args()
    init_default_scope('mmseg')
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    with one_line_errors(torch.cuda.OutOfMemoryError):
        check(args)
        peaks: dict[str, float] = {}
        rows = [row for case in args.cases for row in measure_case(case, args, peaks)]
    add_shares(rows, args, peaks)
    keys = ('arch', 'size', 'tokens', 'batch', 'device', 'dtype', 'rounds', 'compile')
    result = dict(
        {key: getattr(args, key) for key in keys},
        machine=machine(args.device),
        gemm_peak_gflops={dtype: peak / 1e9 for dtype, peak in peaks.items()},
        encoders=rows,
        ratios=ratios(rows, args.dtype),
    )
    print(
        ', '.join(
            [
                f'ViT-{args.arch}',
                f'{args.size} x {args.size} pixels',
                f'{args.tokens} tokens',
                f'batch {args.batch}',
                result['machine'],
                *(f'{dtype} peak {peak / 1e9:.0f} GFLOP/s' for dtype, peak in peaks.items()),
            ]
        )
    )
    print(table(rows))
    print('\n'.join(f'{name}: {ratio:.2f}' for name, ratio in result['ratios'].items()))
    if args.json:
        with one_line_errors():
            write_whole(args.json, json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
