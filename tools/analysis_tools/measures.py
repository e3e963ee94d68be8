"""What benchmark.py measures: seconds, memory, FLOPs, and what the machine could do."""

import json
import platform
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

MB = 1e6
# Side of the square matrices whose product tells the machine's peak.
GEMM_SIDE = dict(cpu=2048, cuda=8192)


def seconds(function: Callable[[], object], device: str) -> float:
    """Wall-clock time of a call."""
    synchronise(device)
    start = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
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
    """MB that the tensors made by a call take at most, on top of those that are there before."""
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


def flops(function: Callable[[], object]) -> int:
    """FLOPs of the matrix products and convolutions of a call, at 2 a multiply-add; nothing is computed.

    The call makes its own tensors, on the CPU: there attention is plain products, and no product is widened by a bias.
    """
    # The counter does not know this one by itself. In one piece, as it takes no memory.
    in_place = {torch.ops.aten.baddbmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * a[2] * b[2]}
    with (
        FakeTensorMode(),
        FlopCounterMode(display=False, custom_mapping=in_place) as counter,
        mock.patch('dit_sam.models.layers.chunked_cpu.CHUNK', 2**60),
    ):
        function()
    return counter.get_total_flops()


def machine(device: str) -> str:
    """What the figures belong to."""
    if device.startswith('cuda'):
        return f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}'
    about = Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.*)', about.read_text()) if about.exists() else []
    return f'{torch.get_num_threads()} threads of {(names or [platform.machine()])[0]}, torch {torch.__version__}'
