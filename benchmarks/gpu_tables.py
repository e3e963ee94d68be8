"""The measurements of gpu_report.py: each function makes rows of one of its tables, one by one."""

import gc
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch._inductor.utils as inductor
from cases import build, features, inputs, ours
from choices import BATCH, CONFIG_OF
from encoder import MEASURES, add_shares, dtypes_of, measure_case, ratios
from measures import if_it_fits, seconds, steps
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.utils.dl_utils import set_multi_processing
from mmseg.registry import DATASETS
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader

from dit_sam.models import SAMViT
from dit_sam.structures import TextFeatures

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / 'tools' / 'analysis_tools'))
from estimate_memory import GIB, Step, attention_of, estimate

CONFIGS = ROOT / 'configs' / 'dit_sam'
TOKENS = 20
# Its name since torch 2.8, and the one before.
fresh_cache = getattr(inductor, 'fresh_cache', None) or inductor.fresh_inductor_cache
# Kinds of weights by a part of their names, the first that fits; the last fits all.
KINDS = {'rel_pos': 'relative positions', '.attn.': 'attention', 'instruction': 'instruction', '': 'others'}
NO_MEMORY = 'does not fit in memory'
Rows = list[list[str]]


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Allow or forbid TF32 in products and convolutions of float32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = enabled
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def gradients_of(model: nn.Module, images: Tensor, text: TextFeatures, dtype: str, device: str) -> dict[str, Tensor]:
    """The feature map, and its gradients by kind of weight in one row each, in float64.

    They are those of a sum with random factors. A mean square would not do: the map comes out of a LayerNorm, so that
    its mean square hardly depends on the weights before.
    """
    with torch.autocast(device.partition(':')[0], torch.bfloat16, enabled=dtype == 'bfloat16'):
        output = features(model, images, text)
    factors = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (output.double() * factors.to(output.device)).mean().backward()
    found: dict[str, list[Tensor]] = {kind: [] for kind in KINDS.values()}
    for name, weight in sorted(model.named_parameters()):
        if weight.grad is not None:
            kind = next(kind for part, kind in KINDS.items() if part in name)
            found[kind].append(weight.grad.double().flatten())
    model.zero_grad()
    return {'features': output.detach().double(), **{kind: torch.cat(parts) for kind, parts in found.items() if parts}}


def deviation(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


def deviations(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Of the features, and of the kind of gradients that deviates most."""
    of_features, *of_gradients = (deviation(actual[kind], right) for kind, right in expected.items())
    return [f'{value:.1e}' for value in (of_features, max(of_gradients))]


def parity(arch: str, size: int, device: str) -> Iterator[list[str]]:
    """Rows: arithmetic, deviation of the features and of the gradients."""
    torch.manual_seed(0)
    with torch.device(device):
        models = build('ldit', arch, size)
    images, text = inputs(size, TOKENS, 2, device)
    mine = models['ours'].train()
    # The two share their weights, so one is copied.
    exact = deepcopy(models['textbook']).double()
    expected = gradients_of(exact, images.double(), TextFeatures(text.tokens.double(), text.mask), 'float64', device)
    del exact
    kinds = [('float32', 'float32', False), ('TF32', 'float32', True), ('bfloat16', 'bfloat16', True)]
    for name, dtype, rounding in kinds:
        if dtype not in dtypes_of(device) or (name == 'TF32' and device == 'cpu'):
            continue
        with tf32(rounding):
            for form, model in (('here', mine), ('textbook', models['textbook'])):
                found = gradients_of(model, images, text, dtype, device)
                yield [f'ViT-{arch} {size}²', name, form, *deviations(found, expected)]


def kernel(arch: str, size: int, device: str) -> Iterator[list[str]]:
    """Rows: where, width of the heads, kernel by type."""
    sizes = SAMViT.ARCHITECTURES[arch]
    heads, grid = sizes['num_heads'], size // 16
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
        yield row


def waits(arch: str, device: str) -> Iterator[list[str]]:
    """Rows: what is done, and how often the CPU waited for the GPU."""
    makers = {
        'forward, backward, Adam': partial(encoder_step, arch, device),
        'the same with text encoder, decoder and loss': partial(model_step, arch),
    }
    for what, make in makers.items():
        yield [f'ViT-{arch}: {what}', str(waits_of(make()))]
        free()


def encoder_step(arch: str, device: str) -> Callable[[], None]:
    with torch.device(device):
        model = ours('ldit', arch, 512)
    images, text = inputs(512, TOKENS, 2, device)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        with torch.autocast('cuda', torch.bfloat16):
            features(model, images, text).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def model_step(arch: str) -> Callable[[], None]:
    whole = Step(Config.fromfile(CONFIGS / CONFIG_OF[arch]), True, 'cuda')
    # As with LossLogHook, which reads the norm when it is logged.
    whole.wrapper.writes_norm = False

    def step() -> None:
        whole.backward(512, 2)
        whole.wrapper.step()
        whole.wrapper.zero_grad()

    return step


def waits_of(step: Callable[[], None]) -> int:
    """How often the CPU waits for the GPU in the second call."""
    step()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode('default')
    return count_waits(caught)


def count_waits(caught: list[warnings.WarningMessage]) -> int:
    """The number of operations that wait; the warning that the mode is a prototype does not count."""
    return sum('synchronizing CUDA operation' in str(each.message) for each in caught)


def fast_dtype(device: str) -> str:
    return 'bfloat16' if 'bfloat16' in dtypes_of(device) else 'float32'


def speed(arch: str, size: int, batch: int, device: str, case: str) -> Iterator[list[str]]:
    """Rows of encoder.py."""
    dtype = fast_dtype(device)
    point = dict(arch=arch, size=size, tokens=TOKENS, batch=batch, device=device, dtype=dtype)
    args = Namespace(**point, rounds=3, compile=False, measures=MEASURES)
    figures = dict(
        forward_s='.4f',
        forward_of_peak='.0%',
        train_step_s='.4f',
        train_of_peak='.0%',
        memory_mb='.0f',
        deviation='.1e',
    )
    where = f'ViT-{arch} {size}², {batch}'
    peaks: dict[str, float] = {}
    with tf32(True):
        found = measure_case(case, args, peaks)
    add_shares(found, args, peaks)
    for row in found:
        # The configs compute float32 without TF32.
        kind = 'TF32' if row['dtype'] == 'float32' and device != 'cpu' else row['dtype']
        if 'failed' in row:
            shown = [row['failed']]
        else:
            shown = [format(row[key], style) if key in row else NO_MEMORY for key, style in figures.items()]
        yield [where, f'{case}, {row["encoder"]}', kind, *shown]
    gained = '; '.join(f'{name} {value:.2f}' for name, value in ratios(found, dtype).items())
    yield [where, f'{case}, times as fast', dtype, gained]


def memory(arch: str, size: int, batch: int, device: str) -> Iterator[list[str]]:
    """Rows: batch, estimated and measured GiB."""
    cfg = Config.fromfile(CONFIGS / CONFIG_OF[arch])
    batches = sorted({1, batch})
    with attention_of('gpu' if device != 'cpu' else 'cpu'):
        estimated = estimate(cfg, size, batches, True)
        for each in batches:
            expected = estimated['totals'][each] - estimated['averaged']
            measure = partial(measured_memory, cfg, size, each)
            measured = 'not on a CPU' if device == 'cpu' else if_it_fits(measure)
            yield [f'ViT-{arch} {size}²', str(each), f'{expected / GIB:.2f}', measured or NO_MEMORY]
            free()


def measured_memory(cfg: Config, size: int, batch: int) -> str:
    free()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step = Step(cfg, True, 'cuda')
    for _ in range(2):
        step.backward(size, batch)
        step.update()
    return f'{(torch.cuda.max_memory_allocated() - before) / GIB:.2f}'


def compiled(arch: str, size: int, batch: int, device: str) -> Iterator[list[str]]:
    """Rows: seconds of a training step as it is and with compiled blocks, and of the first one."""
    dtype = fast_dtype(device)
    with torch.device(device):
        models = [ours('ldit', arch, size) for _ in range(2)]
    images, text = inputs(size, TOKENS, batch, device)
    for block in models[1].blocks:
        block.compile()
    plain, fast = (steps(model, partial(features, model, images, text), dtype, device)['train'] for model in models)
    seconds(plain, device)
    # Code of an earlier run would be found in a cache on disk.
    with fresh_cache():
        first = seconds(fast, device)
    times = [(seconds(plain, device), seconds(fast, device)) for _ in range(4)][1:]
    eager, quick = (median(values) for values in zip(*times))
    yield [f'ViT-{arch} {size}², {batch}', f'{eager:.4f}', f'{quick:.4f}', f'{eager / quick:.2f}', f'{first:.0f}']


def loading(workers: int, folder: Path, items: int) -> Iterator[list[str]]:
    """Rows: processes, and items a second."""
    cfg = Config.fromfile(CONFIGS / 'ldit_vit-b.py')
    # As a training; otherwise OpenCV has threads of its own in each process.
    set_multi_processing(**cfg.env_cfg.mp_cfg)
    options = dict(
        cfg.train_dataloader.dataset, data_root=str(folder), ann_file='instances.json', refs_file='refs(unc).p'
    )
    dataset = DATASETS.build(options)
    repeated = ConcatDataset([dataset] * -(-items // len(dataset)))
    loader = DataLoader(repeated, BATCH, num_workers=workers, collate_fn=pseudo_collate, drop_last=True)
    batches = iter(loader)
    # Until the processes have started and filled their queues.
    for _ in range(2 * workers):
        next(batches, None)
    start, count = time.perf_counter(), sum(1 for _ in batches)
    rate = count * BATCH / (time.perf_counter() - start)
    yield [str(workers), f'{rate:.0f}', f'{rate / workers:.1f}']
