"""How time and memory of our encoders grow: image size, sentence length, sentences per image, ranks.

Usage:
    python benchmarks/ranks.py --axis size tokens sentences ranks --json scaling.json
    python benchmarks/ranks.py --json scaling.json --plot scaling.png

Every point is the fastest of a few rounds. Memory is that of tensors other than the weights. Ranks are processes of
`DistributedDataParallel` with gloo, which share the machine's cores and train on one image each. New figures of an axis
replace those in the file; the other axes stay.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from choices import ARCHS

from dit_sam_cli.arguments import positive

POINTS = dict(size=(512, 768, 1024, 1536), tokens=(5, 10, 20, 40, 80), sentences=(1, 2, 4, 8), ranks=(1, 2))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--axis', nargs='+', choices=POINTS, default=[], help='what to vary')
    parser.add_argument('--arch', choices=ARCHS, default='base', help='size of the encoder')
    parser.add_argument('--size', type=positive, default=512, help='side of the images where it does not vary')
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N; ranks are measured on the CPU')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32', help='bfloat16 is autocast')
    parser.add_argument('--rounds', type=positive, default=2, help='rounds, of which the fastest counts')
    parser.add_argument('--json', type=Path, metavar='FILE', help='file that keeps the figures')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='picture to draw of all of them')
    args = parser.parse_args()
    if not args.axis and not (args.json and args.json.exists()):
        parser.error('choose what to measure by --axis, or name a file of figures by --json')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()

import torch
from cases import inputs, ours
from encoder import check
from measures import machine, peak_memory, seconds, steps, write_json
from mmengine.registry import init_default_scope
from prettytable import PrettyTable, TableStyle
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import check_file, wrap_write_errors

TITLES = dict(
    size='side of the image (pixels)',
    tokens='tokens of a sentence',
    sentences='sentences of an image',
    ranks='ranks, an image each',
)
# Cases of `cases.CASES`, and `default`, whose encoder gets no text.
CASES = dict(
    size=('ldit', 'ldit-windowed'), tokens=('ldit', 'edit'), sentences=('ldit', 'edit', 'default'), ranks=('ldit',)
)
FIGURES = dict(forward_s='forward (s)', train_step_s='train step (s)', memory_mb='train memory (MB)')


def measure_all(axis: str, args: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by case and point of an axis."""
    result: dict[str, dict] = {case: {} for case in CASES[axis]}
    for case in result:
        for value in POINTS[axis]:
            point = dict(dict(size=args.size, tokens=20, sentences=1, ranks=1), **{axis: value})
            result[case][value] = measure_ranks(case, point, args) if axis == 'ranks' else measure(case, point, args)
            print(f'{case}, {axis} {value}: {result[case][value]}', flush=True)
    return result


def measure(case: str, point: dict[str, int], args: argparse.Namespace) -> dict[str, float]:
    """The figures of one encoder at one point. Sentences share an image."""
    model = ours('ldit' if case == 'default' else case, args.arch, point['size'])
    if case == 'default':
        model.instruction = None
    images, text = inputs(point['size'], point['tokens'], point['sentences'], args.device)
    index = torch.zeros(point['sentences'], dtype=torch.long, device=args.device)
    run = steps(model.to(args.device), lambda: model(images[:1], text, index)[0], args.dtype, args.device)
    # The first product on a GPU makes room for those after it.
    run['train']()
    memory = peak_memory(run['train'], args.device)
    forward, train = (min(seconds(run[name], args.device) for _ in range(args.rounds)) for name in ('forward', 'train'))
    return dict(forward_s=forward, train_step_s=train, memory_mb=memory)


def measure_ranks(case: str, point: dict[str, int], args: argparse.Namespace) -> dict[str, float]:
    """The training step of the slowest rank, and the memory of the first one."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(run_rank, (case, point, args, folder), nprocs=point['ranks'])
        figures = [json.loads(path.read_text()) for path in sorted(Path(folder).glob('*.json'))]
    return dict(train_step_s=max(figure['train_step_s'] for figure in figures), memory_mb=figures[0]['memory_mb'])


def run_rank(rank: int, case: str, point: dict[str, int], args: argparse.Namespace, folder: str) -> None:
    """One process of `measure_ranks`; it writes its figures to the folder."""
    init_default_scope('mmseg')
    torch.set_num_threads(max(1, os.cpu_count() // point['ranks']))
    distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=point['ranks'])
    model = DistributedDataParallel(ours(case, args.arch, point['size']))
    images, text = inputs(point['size'], point['tokens'])
    train = steps(model, lambda: model(images, text)[0], args.dtype, 'cpu')['train']
    memory = peak_memory(train, 'cpu')
    times = []
    for _ in range(args.rounds):
        distributed.barrier()
        times.append(seconds(train, 'cpu'))
    Path(folder, f'{rank}.json').write_text(json.dumps(dict(train_step_s=min(times), memory_mb=memory)))
    distributed.destroy_process_group()


def table(axis: str, figures: dict) -> str:
    """The figures of an axis in Markdown."""
    names = [name for name in FIGURES if any(name in point for case in figures.values() for point in case.values())]
    columns = [(case, name) for case in figures for name in names]
    lines = PrettyTable([TITLES[axis], *(f'{case}: {FIGURES[name]}' for case, name in columns)])
    lines.set_style(TableStyle.MARKDOWN)
    for value in next(iter(figures.values())):
        lines.add_row(
            [value, *(f'{figures[case][value][name]:.{0 if name == "memory_mb" else 2}f}' for case, name in columns)]
        )
    return lines.get_string()


def read_figures(path: Path | None) -> dict:
    """The figures in a file; none where there is no file.

    Raises:
        InputError: It holds something else.
    """
    if path is None or not path.exists():
        return {}
    try:
        known = json.loads(path.read_text())
        if all({'machine', 'cases'} <= known[axis].keys() for axis in known) and known.keys() <= POINTS.keys():
            return known
    except (AttributeError, OSError, TypeError, ValueError):
        pass
    raise InputError(f'{path} holds no figures of this tool: name another --json')


def plot(results: dict, path: Path) -> None:
    """Training step and memory against every axis, one panel each."""
    from matplotlib import pyplot

    axes = [axis for axis in POINTS if axis in results]
    figure, panels = pyplot.subplots(2, len(axes), figsize=(3.2 * len(axes), 5), squeeze=False, sharex='col')
    for column, axis in zip(panels.T, axes):
        for panel, name in zip(column, ('train_step_s', 'memory_mb')):
            for case, points in results[axis].items():
                values = [point[name] for point in points.values()]
                panel.plot([int(value) for value in points], values, 'o-', label=case)
            panel.set_ylim(0)
            panel.grid(alpha=0.3)
            panel.legend(fontsize=7)
        column[-1].set_xlabel(TITLES[axis])
    panels[0, 0].set_ylabel(FIGURES['train_step_s'])
    panels[1, 0].set_ylabel(FIGURES['memory_mb'])
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def described(args: argparse.Namespace, device: str) -> str:
    return f'ViT-{args.arch}, {args.size} x {args.size} pixels, 20 tokens, {args.dtype}, {machine(device)}'


def main(args: argparse.Namespace) -> None:
    init_default_scope('mmseg')
    with one_line_errors(torch.cuda.OutOfMemoryError):
        devices = {axis: 'cpu' if axis == 'ranks' else args.device for axis in args.axis}
        for device in set(devices.values()):
            check(argparse.Namespace(**dict(vars(args), device=device)))
        known = read_figures(args.json)
        if args.plot:
            check_file(args.plot)
        for axis, device in devices.items():
            known[axis] = dict(machine=described(args, device), cases=measure_all(axis, args))
            write_json(args.json, known)
    # As in the file, points are strings.
    known = json.loads(json.dumps(known))
    for axis, measured in known.items():
        print(f'\n{measured["machine"]}\n\n{table(axis, measured["cases"])}')
    if args.plot:
        with one_line_errors(), wrap_write_errors(args.plot):
            plot({axis: measured['cases'] for axis, measured in known.items()}, args.plot)


if __name__ == '__main__':
    main(ARGS)
