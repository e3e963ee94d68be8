"""The measures of the benchmarks: seconds, memory, FLOPs, and the machine's peak."""

import json
import platform
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from dit_sam.compat import replaced
from dit_sam.errors import InputError
from dit_sam.mmengine_extras.diagnostics import one_line_errors
from dit_sam.utils import atomic_write_text

MB = 1e6
# Side of the square matrices whose product measures the machine's peak.
GEMM_SIDE = dict(cpu=2048, cuda=8192)


def check_device(device: str) -> None:
    """Make a numbered GPU the current one, for synchronization and memory.

    Raises:
        InputError: The device does not exist.
    """
    gpus = torch.cuda.device_count()
    if device not in ('cpu', *['cuda'] * bool(gpus), *(f'cuda:{number}' for number in range(gpus))):
        raise InputError(f'--device {device} does not exist; this machine has {"cuda and cpu" if gpus else "cpu"}')
    if device.startswith('cuda:'):
        torch.cuda.set_device(device)


def seconds(function: Callable[[], object], device: str) -> float:
    """Wall-clock time of a call."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize()


def gemm_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a product of two square matrices, on CPUs by the faster of PyTorch's two libraries for it."""
    kind = device.partition(':')[0]
    side = GEMM_SIDE[kind]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = seconds(lambda: a @ b, device)
    if kind == 'cpu':
        image, kernel = a[None, :, None].permute(0, 3, 1, 2), b[..., None, None]
        product = min(product, seconds(lambda: F.conv2d(image, kernel), device))
    return 2 * side**3 / product


def peak_memory(function: Callable[[], object], device: str) -> float:
    """The largest number of MB that tensors created by a call take at the same time."""
    if device.startswith('cuda'):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return (torch.cuda.max_memory_allocated() - before) / MB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / 'trace.json'
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())['traceEvents']
    allocations = [event for event in events if event['name'] == '[memory]']
    total = peak = 0
    for event in sorted(allocations, key=lambda event: event['ts']):
        total += event['args']['Bytes']
        peak = max(peak, total)
    return peak / MB


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
    """The result of a call; None if the GPU's memory is too small."""
    try:
        return function()
    except torch.cuda.OutOfMemoryError:
        pass
    # Not inside the `except`: the error keeps the tensors of the call alive.
    torch.cuda.empty_cache()
    return None


def one_line(error: Exception) -> str:
    """An error as a cell of a table."""
    return f'{type(error).__name__}: {error}'.splitlines()[0].replace('|', '/')[:200]


def flops(function: Callable[[], object]) -> int:
    """FLOPs of the matrix products and convolutions of a call, 2 per multiply-add; nothing is computed.

    The call makes its own tensors, on the CPU: there attention is plain products, and no product is widened by a bias.
    """
    # The counter does not know these kernels. In one chunk, because no memory is used.
    unknown = {
        torch.ops.aten.baddbmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * a[2] * b[2],
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    }
    with (
        FakeTensorMode(),
        FlopCounterMode(display=False, custom_mapping=unknown) as counter,
        replaced('dit_sam.models.layers.chunked_cpu', 'CHUNK', 2**60),
    ):
        function()
    return counter.get_total_flops()


def write_json(path: Path | None, figures: dict) -> None:
    """Write figures to the file of --json; without one, nothing."""
    if path is not None:
        with one_line_errors():
            atomic_write_text(path, json.dumps(figures, indent=2) + '\n')


def machine(device: str) -> str:
    """The processor or GPU and the release of torch that the figures belong to."""
    if device.startswith('cuda'):
        return f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}'
    about = Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.*)', about.read_text()) if about.exists() else []
    return f'{torch.get_num_threads()} threads of {(names or [platform.machine()])[0]}, torch {torch.__version__}'
