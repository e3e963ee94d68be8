"""Our encoders compared with the textbook's, segment_anything's and transformers': time, memory and FLOPs in one run.

Usage:
    python benchmarks/encoder.py --arch base --size 512 --json base_512.json
    python benchmarks/encoder.py --arch base --size 1024 --cases sam --measures forward
    python benchmarks/encoder.py --arch huge --size 1024 --device cuda --dtype bfloat16 --batch 4

In every round each encoder runs once, so that other work on the machine slows down all of them equally. The median over
the rounds counts. Forward passes have their own rounds, before those of training steps. A training step is forward and
backward. bfloat16 is autocast over float32 weights; it is left out on a CPU without arithmetic for it. On a GPU,
float32 is TF32, as fast as all of them can be. A reference that fails has a row without figures.

Memory is that of tensors other than the weights: activations and gradients. The peak is the rate of the fastest product
of large matrices in any round. "Of peak" is the share of it that the FLOPs of the equations reach; a training step
counts as three forward passes. Ratios above 1 are in our favor. Cells stay blank if a GPU's memory is too small.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from choices import ARCHS, CASES

from dit_sam_cli.arguments import positive

MEASURES = ('forward', 'train', 'memory')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--arch', choices=ARCHS, default='base', help='size of the encoder')
    parser.add_argument('--size', type=positive, default=512, help='side of the images in pixels, a multiple of 16')
    parser.add_argument('--tokens', type=positive, default=20, help='tokens of a sentence')
    parser.add_argument('--batch', type=positive, default=1, help='pairs of image and sentence')
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N')
    parser.add_argument(
        '--dtype', choices=('float32', 'bfloat16'), default='float32', help='the one for which ratios are printed'
    )
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), help='which encoders; default all')
    parser.add_argument('--measures', nargs='+', choices=MEASURES, default=MEASURES, help='default all')
    parser.add_argument('--rounds', type=positive, default=5, help='rounds, not counting a warm-up round')
    parser.add_argument('--compile', action='store_true', help='torch.compile all of them, without graph breaks')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser.parse_args()


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import torch
from cases import build, features, inputs, ours
from measures import (
    check_device,
    flops,
    gemm_rate,
    if_it_fits,
    machine,
    one_line,
    peak_memory,
    seconds,
    steps,
    write_json,
)
from mmengine.registry import init_default_scope
from prettytable import PrettyTable
from torch import Tensor

from dit_sam.compat import has_bfloat16
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_file

DTYPES = dict(float32=torch.float32, bfloat16=torch.bfloat16)
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
# Ratio: case, reference and figure that ours is compared in.
RATIOS = dict(
    forward_vs_textbook=('ldit', 'textbook', 'forward_s'),
    train_step_vs_textbook=('ldit', 'textbook', 'train_step_s'),
    memory_vs_textbook=('ldit', 'textbook', 'memory_mb'),
    sam_forward_vs_segment_anything=('sam', 'segment_anything', 'forward_s'),
    sam_forward_vs_transformers=('sam', 'transformers', 'forward_s'),
)


def check(args: argparse.Namespace) -> None:
    """Refuse settings that cannot run.

    Raises:
        InputError: The device does not exist or has no arithmetic for the dtype, images are not a whole number of
            patches, or the file for the figures cannot be written.
    """
    check_device(args.device)
    if args.dtype not in dtypes_of(args.device):
        raise InputError(
            f'--dtype {args.dtype}: this CPU has no {args.dtype} arithmetic, and would take many times as long'
        )
    if args.size % 16:
        raise InputError(f'--size {args.size} is not a multiple of 16, the side of a patch')
    if args.json:
        check_file(args.json)


def dtypes_of(device: str) -> list[str]:
    """The dtypes to measure on a device."""
    return [dtype for dtype in DTYPES if dtype != 'bfloat16' or has_bfloat16(device.partition(':')[0])]


def measure_case(case: str, args: argparse.Namespace, peaks: dict[str, float]) -> list[dict]:
    """A row for each encoder of a case and each of its dtypes; `peaks`, FLOP/s by dtype, are raised where surpassed."""
    with torch.device(args.device):
        models = build(case, args.arch, args.size)
    images, text = inputs(args.size, args.tokens, args.batch, args.device)
    runs = {}
    for name, model in models.items():
        if args.compile:
            model.compile(fullgraph=name == 'ours')
        # The references run as fast as they can: in float32, which is TF32 on GPUs, in addition to bfloat16.
        for dtype in dtypes_of(args.device) if name == 'ours' else dict.fromkeys([args.dtype, 'float32']):
            runs[name, dtype] = steps(model, partial(features, model, images, text), dtype, args.device)
    deviation, failed = deviations({key: run['forward'] for key, run in runs.items()})
    runs = {key: run for key, run in runs.items() if key not in failed}
    times = take_times(runs, args, peaks)
    rows = []
    for (name, dtype), run in runs.items():
        rows.append(dict(case=case, encoder=name, dtype=dtype, **times[name, dtype]))
        if (name, dtype) in deviation:
            rows[-1]['deviation'] = deviation[name, dtype]
        if 'memory' in args.measures:
            memory = if_it_fits(partial(peak_memory, run['train'], args.device))
            rows[-1].update({} if memory is None else dict(memory_mb=memory))
    return rows + [dict(case=case, encoder=key[0], dtype=key[1], failed=reason) for key, reason in failed.items()]


def deviations(
    forwards: dict[tuple[str, str], Callable[[], Tensor]],
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], str]]:
    """Relative deviation of each encoder from ours in float32, and the errors of references that fail.

    This is also their warm-up.
    """
    outputs, failed = {}, {}
    for key, forward in forwards.items():
        try:
            outputs[key] = if_it_fits(forward)
        except Exception as error:
            if key[0] == 'ours':
                raise
            failed[key] = one_line(error)
    exact = outputs.get(('ours', 'float32'))
    if exact is None:
        return {}, failed
    exact = exact.double()
    fitting = {key: output for key, output in outputs.items() if output is not None}
    return {key: ((output - exact).norm() / exact.norm()).item() for key, output in fitting.items()}, failed


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
    """Add FLOPs, and the share of the peak that the needed ones reach."""
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
    """How many times faster or smaller ours is; a reference counts with the dtype in which it is faster."""

    def best(case: str, encoder: str, measure: str, dtypes: Iterable[str] = DTYPES) -> float | None:
        found = [row for row in rows if (row['case'], row['encoder']) == (case, encoder) and row['dtype'] in dtypes]
        return min((row[measure] for row in found if measure in row), default=None)

    pairs = {
        name: (
            best(case, reference, measure, [dtype] if measure == 'memory_mb' else DTYPES),
            best(case, 'ours', measure, [dtype]),
        )
        for name, (case, reference, measure) in RATIOS.items()
    }
    pairs['bf16_vs_fp32'] = tuple(best('ldit', 'ours', 'forward_s', [each]) for each in DTYPES)
    return {name: theirs / mine for name, (theirs, mine) in pairs.items() if theirs and mine}


def table(rows: list[dict]) -> str:
    """The rows as a readable table."""
    names = ('case', 'encoder', 'dtype')
    columns = {key: titled for key, titled in COLUMNS.items() if any(key in row for row in rows)}
    lines = PrettyTable([*names, *(title for title, _ in columns.values())], align='r')
    lines.align.update(dict.fromkeys(names, 'l'))
    for row in rows:
        figures = [format(row[key], style) if key in row else '' for key, (_, style) in columns.items()]
        lines.add_row([*(row[name] for name in names), *figures])
    return lines.get_string()


def main(args: argparse.Namespace) -> None:
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
    reached = ', '.join(f'{dtype} peak {peak / 1e9:.0f} GFLOP/s' for dtype, peak in peaks.items())
    print(
        f'ViT-{args.arch}, {args.size} x {args.size} pixels, {args.tokens} tokens, batch {args.batch}, '
        f'{result["machine"]}, {reached}'
    )
    print(table(rows))
    for row in rows:
        if 'failed' in row:
            print(f'{row["encoder"]} failed: {row["failed"]}')
    print('\n'.join(f'{name}: {ratio:.2f}' for name, ratio in result['ratios'].items()))
    write_json(args.json, result)


if __name__ == '__main__':
    main(ARGS)
