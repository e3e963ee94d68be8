"""Steps of whole models on tensors that have a device, a type and a shape but no content: meta and fake CUDA ones.

A CUDA build of torch needs no GPU for fake tensors. An operation on two devices raises, and so does one that waits for
content: `nonzero`, `.item()`, indices of bool. `no_blocking_copies` adds the copies that wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dit_sam.datasets.transforms.formatting import ReferringDataSample

CONFIGS = Path(__file__).parents[1] / 'configs'
# Every config, such as 'dit_sam/ldit_vit-b.py'.
NAMES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('[!_]*/*.py'))
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'the', 'cat', 'left']
SENTENCES = ['the cat left', 'cat']
ORIGINAL = (480, 640)


def load(name: str) -> Config:
    """A config with a few words in place of the file that the tokenizer reads."""
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    for part in (cfg.model.get('text_encoder'), cfg.model.backbone.get('text_encoder')):
        if part is not None:
            part.tokenizer = WORDS
    return cfg


def batch(cfg: Config, training: bool) -> dict:
    """A batch as from a data loader: two pictures of different sizes on the CPU, with sentence, point, box and mask."""
    height, width = cfg.model.data_preprocessor.get('size') or (64, 64)
    samples = []
    for size, sentence in zip(((height, width // 2), (height - 3, width)), SENTENCES):
        sample = ReferringDataSample(
            metainfo=dict(
                text=sentence,
                img_shape=size,
                ori_shape=ORIGINAL,
                scale_factor=(1.0, 1.0),
                points=[[10.0, 20.0]],
                box=[1.0, 2.0, 30.0, 40.0],
            )
        )
        shape = size if training and cfg.model.data_preprocessor.get('pad_masks', True) else ORIGINAL
        sample.gt_sem_seg = PixelData(data=torch.zeros(1, *shape, dtype=torch.uint8))
        side = (cfg.model.get('text_encoder') or {}).get('img_size')
        if side is not None:
            sample.text_encoder_image = PixelData(data=torch.zeros(3, side, side))
        samples.append(sample)
    return dict(
        inputs=[torch.zeros(3, *sample.img_shape, dtype=torch.uint8) for sample in samples], data_samples=samples
    )


def on_cuda(model: nn.Module) -> nn.Module:
    """A model of the meta device with fake CUDA tensors for weights and buffers; inside a `FakeTensorMode`."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype, device='cuda')
                module._parameters[name] = nn.Parameter(fake, weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device='cuda')
    model.data_preprocessor._device = torch.device('cuda')
    return model


@contextmanager
def cuda_autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """CUDA's autocast; `torch.autocast` turns itself off without a GPU. None leaves float32."""
    before = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    torch.set_autocast_enabled('cuda', dtype is not None)
    torch.set_autocast_dtype('cuda', dtype or torch.float16)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled('cuda', before[0])
        torch.set_autocast_dtype('cuda', before[1])


class _NoBlockingCopies(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[0] if func is torch.ops.aten._to_copy.default else args[1]
            waits = not (kwargs or {}).get('non_blocking') and not (len(args) > 2 and args[2])
            if {source.device.type, out.device.type} == {'cpu', 'cuda'} and waits and out.numel() > 0:
                raise AssertionError(f'a copy of {tuple(source.shape)} from {source.device} to {out.device} waits')
        return out


@contextmanager
def no_blocking_copies() -> Iterator[None]:
    """Make copies between CPU and GPU raise an error if the CPU waits for them."""
    with _NoBlockingCopies():
        yield
