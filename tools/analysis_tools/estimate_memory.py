"""Memory of a training step: ``tools/analysis_tools/estimate_memory.py CONFIG [--sizes 512 1024] [--amp] [--measure]``.

Runs a step on fake tensors, which have shapes but no content, and counts the bytes of live tensors, so any model can be
estimated on any machine. ``fixed`` is the memory of weights, gradients, the optimizer's state, and the averaged weights
of an EMAHook that keeps them on the GPU. ``per image`` is what the largest batch adds for each image beyond the batch
before it. A GPU needs more: the context of CUDA, and memory that the allocator cannot reuse.

``--measure`` runs a real step of the smallest batch in a fresh process and prints its peak next to the estimate. With a
GPU it is the peak of its allocator, else that of the process, above its memory after the imports (Linux).
"""

import argparse
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dit_sam_cli.arguments import add_config_options, let_threads_yield


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Estimate the memory of a training step')
    parser.add_argument('config', help='config file')
    parser.add_argument('--sizes', type=int, nargs='+', default=[512, 1024], help='sides of the image in pixels')
    parser.add_argument('--batch-sizes', type=int, nargs='+', default=[1, 2, 4, 8], help='images on one device')
    parser.add_argument('--amp', action='store_true', help='forward pass in bfloat16, as tools/train.py --amp')
    parser.add_argument(
        '--attention',
        choices=['gpu', 'cpu'],
        default='gpu',
        help="PyTorch's fused attention, or the chunked one of CPUs; default gpu",
    )
    parser.add_argument('--measure', action='store_true', help='also run a real step of the smallest batch')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to this file, in bytes')
    add_config_options(parser, '; model.backbone.with_cp=True recomputes activations')
    parser.add_argument('--real', type=int, nargs=2, metavar=('SIZE', 'BATCH'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(*args.sizes, *args.batch_sizes) < 1:
        parser.error('--sizes and --batch-sizes must be 1 or more')
    return args


if __name__ == '__main__':
    # Before the other imports, which take seconds.
    ARGS = parse_args()
    let_threads_yield()

import torch
import torch.nn.functional as F
from count_parameters import check_segmentor, taken_by, text_features
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from prettytable import PrettyTable
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from dit_sam.compat import has_bfloat16, replaced
from dit_sam.engine.launch import load_config
from dit_sam.errors import InputError
from dit_sam.mmengine_extras import prepare_process
from dit_sam.mmengine_extras.config_check import class_name
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text, check_file

GIB = 2**30


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = WeakIdKeyDictionary(ref_type=weakref.ref)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size


class Step:
    """A training step of a config's model; with `amp` its forward pass is in bfloat16.

    Raises:
        InputError: The model is not a segmentor.
    """

    def __init__(self, cfg: Config, amp: bool, device: str = 'cpu') -> None:
        with torch.device(device):
            self.model = MODELS.build(cfg.model).train()
        check_segmentor(self.model)
        self.wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.amp, self.device = amp, device

    def backward(self, size: int, batch: int) -> None:
        """Forward and backward pass. The loss is cross-entropy at full resolution, as the paper's."""
        images = torch.zeros(batch, 3, size, size, device=self.device)
        with torch.autocast(self.device, torch.bfloat16) if self.amp else nullcontext():
            text = text_features(self.model, batch, self.device)
            features = self.model.backbone(images, **taken_by(self.model.backbone, text))
            if self.model.with_neck:
                features = self.model.neck(features)
            logits = self.model.decode_head(features, **taken_by(self.model.decode_head, text))
            logits = F.interpolate(logits, (size, size), mode='bilinear', align_corners=True)
        F.binary_cross_entropy_with_logits(logits.float(), torch.zeros_like(logits, dtype=torch.float32)).backward()

    def update(self) -> None:
        self.wrapper.optimizer.step()
        self.wrapper.optimizer.zero_grad()


@contextmanager
def attention_of(device: str) -> Iterator[None]:
    """Use the form of attention for that device, even if the tensors are on another one."""
    layers = 'dit_sam.models.layers'
    on_cpu = lambda _: device == 'cpu'  # noqa: E731
    with replaced(f'{layers}.attend', 'on_cpu', on_cpu), replaced(f'{layers}.attention', 'on_cpu', on_cpu):
        yield


def peaks(cfg: Config, size: int, batch: int, amp: bool) -> dict[str, int]:
    """Bytes of a step on fake tensors: weights, gradients, the optimizer's state, and the peak of the whole step."""
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as counter:
        step = Step(cfg, amp)
        weights = counter.live
        step.backward(size, batch)
        gradients, backward, counter.peak = counter.live - weights, counter.peak, 0
        step.update()
        # The first update has made the optimizer's state and freed the gradients.
        state = counter.live - weights
        return dict(weights=weights, gradients=gradients, state=state, peak=max(backward + state, counter.peak))


def estimate(cfg: Config, size: int, batch_sizes: list[int], amp: bool) -> dict:
    """Bytes for every batch size, and their parts."""
    found = {batch: peaks(cfg, size, batch, amp) for batch in batch_sizes}
    parts = found[batch_sizes[0]]
    averaged = parts['weights'] * sum(
        class_name(hook) == 'EMAHook' and hook.get('device') != 'cpu' for hook in cfg.get('custom_hooks', [])
    )
    fixed = parts['weights'] + parts['gradients'] + parts['state'] + averaged
    totals = {batch: one['peak'] + averaged for batch, one in found.items()}
    (small, less), (large, more) = ([(0, fixed)] + list(totals.items()))[-2:]
    return dict(size=size, fixed=fixed, per_image=(more - less) // (large - small), averaged=averaged, totals=totals)


def run_real(cfg: Config, size: int, batch: int, amp: bool) -> int:
    """Bytes at the peak of two real steps in this process, without averaged weights."""
    if torch.cuda.is_available():
        step = Step(cfg, amp, 'cuda')
    else:
        before = resident('VmRSS')
        step = Step(cfg, amp)
    for _ in range(2):
        step.backward(size, batch)
        step.update()
    return torch.cuda.max_memory_allocated() if step.device == 'cuda' else resident('VmHWM') - before


def resident(field: str) -> int:
    """Bytes of this process that are in memory (VmRSS), or were at most (VmHWM)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f'{field}:'))


def measure(size: int, batch: int) -> int | None:
    """`run_real` in a fresh process with the arguments of this one; None if it fails, with the reason on stderr."""
    command = [sys.executable, *sys.argv, '--real', str(size), str(batch)]
    # Makes glibc return freed memory to the system at once.
    environment = {**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        if os.environ.get('DIT_SAM_DEBUG') == '1':
            print(done.stderr, file=sys.stderr)
        reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
        print(f'the real step of {size} pixels failed: {reason}', file=sys.stderr)
        return None
    return int(done.stdout.split()[-1])


def table(results: list[dict]) -> str:
    """The results as a readable table, in GiB."""
    batches = list(results[0]['totals'])
    measured = ['measured', 'estimated'] if 'measured' in results[0] else []
    lines = PrettyTable(['size', 'fixed', 'per image', *(f'batch {batch}' for batch in batches), *measured], align='r')
    for result in results:
        numbers = [result['fixed'], result['per_image'], *result['totals'].values()]
        if measured:
            numbers += [result['measured'], min(result['totals'].values()) - result['averaged']]
        lines.add_row([result['size'], *('failed' if number is None else f'{number / GIB:.2f}' for number in numbers)])
    return lines.get_string()


def main(args: argparse.Namespace) -> None:
    prepare_process()
    with one_line_errors():
        if args.json:
            check_file(args.json)
        if args.measure and args.amp and not has_bfloat16('cuda' if torch.cuda.is_available() else 'cpu'):
            raise InputError(
                '--measure --amp: this CPU has no bfloat16 arithmetic, and a step would take many times as long; '
                'leave out one of the two'
            )
        cfg = load_config(args.config, cfg_options=args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        with attention_of(args.attention):
            if args.real:
                print(run_real(cfg, *args.real, args.amp))
                return
            results = [estimate(cfg, size, sorted(set(args.batch_sizes)), args.amp) for size in args.sizes]
        for result in results if args.measure else ():
            result['measured'] = measure(result['size'], min(args.batch_sizes))
    print(f'{args.config}{" --amp" * args.amp}: GiB at the peak of a training step')
    print(table(results))
    if args.json:
        with one_line_errors():
            atomic_write_text(args.json, json.dumps(results, indent=2) + '\n')
    if any(result.get('measured', 0) is None for result in results):
        sys.exit(1)


if __name__ == '__main__':
    main(ARGS)
