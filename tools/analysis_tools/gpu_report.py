"""A page of tables about one GPU: parity, kernels, waits, speed, memory, compilation, loading.

Usage:
    python tools/analysis_tools/gpu_report.py --out gpu.md

It begins nothing after `--minutes`, a row of a table at a time, starts with what matters most, and says in the table
what it had no time or memory for, or what failed. The file is written after every table. All figures are of this run:
what is compared took turns. `--device cpu --archs tiny --sizes 64` tries the program.

* Parity: relative deviation of L-DIT's encoder and of its gradients from the textbook's form in float64.
* Kernel: which of PyTorch's fused attentions takes the heads of our encoder, bias and all.
* Waits: how often the CPU waits for the GPU in a training step; the one wait of a step comes where losses are logged.
* Speed: see benchmark.py; the deviation is from float32 with TF32.
* Memory: that of estimate_memory.py beside the allocator's peak.
* Compiled: a training step with the blocks compiled, as `compile=True` does.
* Loading: items a second of RefCOCO's training pipeline, from JPEG files of 640 × 480.
"""

import argparse
import gc
import json
import os
import pickle
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from benchmark import MEASURES, add_shares, check, dtypes_of, if_it_fits, measure_case, positive, ratios, steps
from encoders import build, features, inputs, ours
from estimate_memory import GIB, Step, attention_of, estimate
from measures import machine, seconds
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader

from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.models import SAMViT
from dit_sam.structures import TextFeatures
from dit_sam.utils import check_file, write_whole

CONFIGS = Path(__file__).parents[2] / 'configs' / 'dit_sam'
CONFIG_OF = dict(tiny='ldit_vit-t_shapes.py', base='ldit_vit-b.py', large='ldit_vit-l.py', huge='ldit_vit-h.py')
TOKENS = 20
# Of the paper: 64 images on 8 GPUs.
BATCH = 8
PARTS = ('parity', 'kernels', 'waits', 'speed', 'memory', 'compiled', 'loading')
NO_TIME, NO_MEMORY = 'no time was left', 'memory does not hold it'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda', help='cuda, cuda:N, or cpu to try the program')
    parser.add_argument('--minutes', type=float, default=8.0, help='after which nothing new is begun')
    parser.add_argument(
        '--archs', nargs='+', choices=sorted(CONFIG_OF), default=['base', 'large', 'huge'], help='sizes of the encoder'
    )
    parser.add_argument('--sizes', nargs='+', type=positive, default=[512, 1024], help='sides of the images in pixels')
    parser.add_argument(
        '--batch',
        type=positive,
        default=BATCH,
        help='images of a step at the first size; of larger images as many as have as many pixels',
    )
    parser.add_argument('--workers', nargs='+', type=positive, default=[4, 8], help='data-loading processes')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS, help='tables to make; default all')
    parser.add_argument('--out', type=Path, metavar='FILE', help='also write the page to this file')
    return parser.parse_args()


class Clock:
    """What is left of the time."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.monotonic(), 60 * minutes

    @property
    def spent(self) -> float:
        return time.monotonic() - self.start

    @property
    def is_over(self) -> bool:
        return self.spent > self.seconds


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Products and convolutions in float32 may round to TF32 while it lasts, or not."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def gradients_of(
    model: nn.Module, images: Tensor, text: TextFeatures, dtype: str, device: str
) -> tuple[Tensor, Tensor]:
    """The feature map, and the gradients of its mean square in one row, in float64."""
    with torch.autocast(device.partition(':')[0], torch.bfloat16, enabled=dtype == 'bfloat16'):
        output = features(model, images, text)
    output.double().square().mean().backward()
    found = torch.cat(
        [weight.grad.double().flatten() for _, weight in sorted(model.named_parameters()) if weight.grad is not None]
    )
    model.zero_grad()
    return output.detach().double(), found


def relative(actual: Tensor, expected: Tensor) -> str:
    return f'{((actual - expected).norm() / expected.norm()).item():.1e}'


def parity(arch: str, size: int, device: str) -> list[list[str]]:
    """Rows: arithmetic, deviation of the features and of the gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        models = build('ldit', arch, size)
    images, text = inputs(size, TOKENS, 2, device)
    mine = models['ours'].train()
    # Weights are shared between the two: the copy takes its own.
    exact = deepcopy(models['textbook']).double()
    expected = gradients_of(exact, images.double(), TextFeatures(text.tokens.double(), text.mask), 'float64', device)
    del exact
    rows = []
    kinds = [('float32', 'float32', False), ('TF32', 'float32', True), ('bfloat16', 'bfloat16', True)]
    for name, dtype, rounds in kinds:
        if dtype not in dtypes_of(device) or (name == 'TF32' and device == 'cpu'):
            continue
        with tf32(rounds):
            for who, model in (('here', mine), ('textbook', models['textbook'])):
                found = gradients_of(model, images, text, dtype, device)
                rows.append([f'ViT-{arch} {size}²', name, who, *map(relative, found, expected)])
    return rows


def kernel(arch: str, size: int, device: str) -> list[list[str]]:
    """Rows: where, width of the heads, kernel by type."""
    sizes = SAMViT.ARCHITECTURES[arch]
    heads, grid = sizes['num_heads'], size // 16
    rows = []
    for where, side, words in (('global', grid, TOKENS), ('windows of 14', 14, 0)):
        width = -(-(sizes['embed_dims'] // heads + 2 * side) // 8) * 8
        row = [f'ViT-{arch} {size}²', where, str(width)]
        for dtype in (torch.bfloat16, torch.float32):
            q, k = (
                torch.zeros(1, heads, count, width, device=device, dtype=dtype, requires_grad=True)
                for count in (side * side, side * side + words)
            )
            choice = torch._fused_sdp_choice(q, k, k)
            row.append(torch.nn.attention.SDPBackend(choice).name.lower().replace('_attention', ''))
        rows.append(row)
    return rows


def waits(arch: str, device: str) -> list[list[str]]:
    """Rows: what is done, and how often the CPU waited for it."""
    model = ours('ldit', arch, 512).to(device)
    images, text = inputs(512, TOKENS, 2, device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        with torch.autocast('cuda', torch.bfloat16):
            features(model, images, text).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return [[f'ViT-{arch}: forward, backward, Adam', str(count_waits(said))]]


def count_waits(said: list[warnings.WarningMessage]) -> int:
    """The warnings of operations that wait; that the mode is a prototype is one too."""
    return sum('synchronizing CUDA operation' in str(each.message) for each in said)


def speed(arch: str, size: int, batch: int, device: str) -> list[list[str]]:
    """Rows of benchmark.py."""
    dtype = 'bfloat16' if 'bfloat16' in dtypes_of(device) else 'float32'
    rows = []
    for case in ('ldit', 'sam'):
        args = Namespace(
            arch=arch,
            size=size,
            tokens=TOKENS,
            batch=batch,
            device=device,
            dtype=dtype,
            rounds=3,
            compile=False,
            measures=MEASURES,
        )
        peaks: dict[str, float] = {}
        with tf32(True):
            found = measure_case(case, args, peaks)
        add_shares(found, args, peaks)
        gained = ratios(found, dtype)
        for row in found:
            shown = [
                format(row[key], style) if key in row else NO_MEMORY
                for key, style in (
                    ('forward_s', '.4f'),
                    ('forward_of_peak', '.0%'),
                    ('train_step_s', '.4f'),
                    ('train_of_peak', '.0%'),
                    ('memory_mb', '.0f'),
                    ('deviation', '.1e'),
                )
            ]
            rows.append([f'ViT-{arch} {size}², {batch}', f'{case}, {row["encoder"]}', row['dtype'], *shown])
        rows.append(
            [
                f'ViT-{arch} {size}², {batch}',
                f'{case}, times as fast',
                dtype,
                '; '.join(f'{name} {value:.2f}' for name, value in gained.items()),
            ]
        )
        free()
    return rows


def memory(arch: str, size: int, batch: int, device: str) -> list[list[str]]:
    """Rows: batch, estimated and measured GiB."""
    cfg = Config.fromfile(CONFIGS / CONFIG_OF[arch])
    rows = []
    batches = sorted({1, max(batch // 2, 1), batch})
    with attention_of('gpu' if device != 'cpu' else 'cpu'):
        said = estimate(cfg, size, batches, True)
        for each in batches:
            expected = said['totals'][each] - said['averaged']
            measure = partial(measured_memory, cfg, size, each)
            measured = 'not on a CPU' if device == 'cpu' else if_it_fits(measure)
            rows.append([f'ViT-{arch} {size}²', str(each), f'{expected / GIB:.2f}', measured or NO_MEMORY])
            free()
    return rows


def measured_memory(cfg: Config, size: int, batch: int) -> str:
    free()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step = Step(cfg, True, 'cuda')
    for _ in range(2):
        step.backward(size, batch)
        step.update()
    return f'{(torch.cuda.max_memory_allocated() - before) / GIB:.2f}'


def compiled(arch: str, size: int, batch: int, device: str) -> list[list[str]]:
    """Rows: seconds of a training step as it is and with compiled blocks, and of the first one."""
    dtype = 'bfloat16' if 'bfloat16' in dtypes_of(device) else 'float32'
    with torch.device(device):
        models = [ours('ldit', arch, size) for _ in range(2)]
    images, text = inputs(size, TOKENS, batch, device)
    for block in models[1].blocks:
        block.compile()
    plain, fast = (steps(model, partial(features, model, images, text), dtype, device)['train'] for model in models)
    seconds(plain, device)
    first = seconds(fast, device)
    times = [(seconds(plain, device), seconds(fast, device)) for _ in range(4)][1:]
    eager, quick = (median(values) for values in zip(*times))
    return [[f'ViT-{arch} {size}², {batch}', f'{eager:.4f}', f'{quick:.4f}', f'{eager / quick:.2f}', f'{first:.0f}']]


def loading(workers: int, folder: Path, items: int) -> list[list[str]]:
    """Rows: processes, and items a second."""
    cfg = Config.fromfile(CONFIGS / 'ldit_vit-b.py')
    options = dict(
        cfg.train_dataloader.dataset, data_root=str(folder), ann_file='instances.json', refs_file='refs(unc).p'
    )
    dataset = DATASETS.build(options)
    repeated = ConcatDataset([dataset] * -(-items // len(dataset)))
    loader = DataLoader(repeated, BATCH, num_workers=workers, collate_fn=pseudo_collate, drop_last=True)
    batches = iter(loader)
    # Processes start and fill their queues.
    for _ in range(2 * workers):
        next(batches, None)
    start, count = time.perf_counter(), sum(1 for _ in batches)
    rate = count * BATCH / (time.perf_counter() - start)
    return [[str(workers), f'{rate:.0f}', f'{rate / workers:.1f}']]


def write_photographs(folder: Path, images: int = 64) -> None:
    """RefCOCO's layout, with smooth noise of 640 × 480 for photographs."""
    rng = np.random.default_rng(0)
    (folder / 'train2014').mkdir()
    refs, annotations, listed = [], [], []
    for number in range(1, images + 1):
        name = f'COCO_train2014_{number:012d}.jpg'
        noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / 'train2014' / name), cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC))
        listed.append(dict(id=number, file_name=name, height=480, width=640))
        angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
        outline = np.stack([320 + 150 * np.cos(angles), 240 + 120 * np.sin(angles)], 1).round(2).ravel().tolist()
        annotations.append(dict(id=number, image_id=number, category_id=1, iscrowd=0, segmentation=[outline]))
        refs.append(
            dict(
                ref_id=number,
                ann_id=number,
                image_id=number,
                category_id=1,
                split='train',
                file_name=name,
                sent_ids=[number],
                sentences=[dict(sent_id=number, sent='the man on the left', raw='the man on the left', tokens=[])],
            )
        )
    content = dict(images=listed, annotations=annotations, categories=[dict(id=1, name='person')])
    (folder / 'instances.json').write_text(json.dumps(content))
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))


def section(
    title: str, columns: list[str], runs: list[tuple[str, Callable[[], list[list[str]]]]], clock: Clock, on_gpu: bool
) -> str:
    """A table in Markdown, row by row as time and memory allow."""
    rows = []
    for name, run in runs:
        late = clock.is_over
        try:
            found = None if late else if_it_fits(run)
        # A row must not take the others with it: there may be no compiler, or another release of what is compared.
        except Exception as error:
            found = [[name, f'failed: {type(error).__name__}: {error}'.splitlines()[0].replace('|', '/')[:200]]]
        if found is None:
            found = [[name, NO_TIME if late else NO_MEMORY]]
        rows += [[*row, *[''] * (len(columns) - len(row))] for row in found]
        if on_gpu:
            free()
        print(f'{clock.spent:6.0f} s  {title}: {name}', flush=True)
    lines = [columns, ['---'] * len(columns), *rows]
    return '\n'.join([f'## {title}', '', *(f'| {" | ".join(line)} |' for line in lines)])


def make_page(args: argparse.Namespace, folder: Path) -> str:
    """The page, which is also written to `--out` after every table."""
    clock, device, on_gpu = Clock(args.minutes), args.device, args.device != 'cpu'
    write_photographs(folder)
    # Images of a batch by size: as many pixels as at the first size.
    named = [
        (f'ViT-{arch} {size}²', arch, size, max(args.batch * args.sizes[0] ** 2 // size**2, 1))
        for size in args.sizes
        for arch in args.archs
    ]
    first = [point for point in named if point[2] == args.sizes[0]]
    tables = dict(
        parity=(
            'Parity',
            ['encoder', 'arithmetic', 'form', 'features', 'gradients'],
            [(name, partial(parity, arch, size, device)) for name, arch, size, _ in first],
        ),
        kernels=(
            'Kernel of attention',
            ['encoder', 'blocks', 'width of a head', 'bfloat16', 'float32'],
            [(name, partial(kernel, arch, size, device)) for name, arch, size, _ in named],
        ),
        waits=(
            'Waits of a training step',
            ['step', 'waits'],
            [(f'ViT-{args.archs[0]}', partial(waits, args.archs[0], device))],
        ),
        speed=(
            'Speed',
            [
                'encoder, images',
                'case',
                'type',
                'forward (s)',
                'of peak',
                'training step (s)',
                'of peak',
                'memory (MB)',
                'deviation',
            ],
            [(name, partial(speed, arch, size, batch, device)) for name, arch, size, batch in named],
        ),
        memory=(
            'Memory of a training step, bfloat16 (GiB)',
            ['model', 'images', 'estimated', 'measured'],
            [(name, partial(memory, arch, size, batch, device)) for name, arch, size, batch in named],
        ),
        compiled=(
            'Compiled blocks',
            ['encoder, images', 'step (s)', 'compiled (s)', 'times as fast', 'first step (s)'],
            [(name, partial(compiled, arch, size, batch, device)) for name, arch, size, batch in first],
        ),
        loading=(
            'Loading',
            ['processes', 'items/s', 'of each'],
            [(str(count), partial(loading, count, folder, 100 * count if on_gpu else 32)) for count in args.workers],
        ),
    )
    head = [
        f'# {machine(device)}',
        '',
        f'{os.cpu_count()} CPU cores, {TOKENS} tokens of text. Written by `python tools/analysis_tools/gpu_report.py`.',
    ]
    # Without a GPU nothing is waited for.
    made = ['\n'.join(head)]
    for part in args.parts:
        if on_gpu or part != 'waits':
            made.append(section(*tables[part], clock, on_gpu))
            page = '\n\n'.join([*made, f'{clock.spent / 60:.1f} minutes.']) + '\n'
            if args.out:
                write_whole(args.out, page)
    return page


def main() -> None:
    args = parse_args()
    init_default_scope('mmseg')
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            check(Namespace(device=args.device, dtype='float32', size=size, json=None))
        if args.out:
            check_file(args.out)
        print(make_page(args, Path(folder)))


if __name__ == '__main__':
    main()
