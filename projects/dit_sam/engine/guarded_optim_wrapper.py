"""Steps that are not finite are not taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..errors import InputError
from .sharding import copies_of_gradients

# Whose fused kernels read `found_inf`; those of MPS do not (ATen/native/mps/operations/FusedAdamKernelImpl.mm).
LISTENING = ('cpu', 'cuda')


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """`OptimWrapper` that leaves out a step whose gradients hold NaN or infinity; see `FiniteStepHook`.

    The 2-norm of all gradients judges the step, and `clip_grad` takes the same norm. All ranks decide alike: gradients
    are averaged before, and where FSDP shards them the norm is that of all shards, with or without replicas.

    Where the optimizer is a fused Adam or AdamW, its kernel leaves the step out, and the host does not wait for the
    answer. Adam and AdamW are fused where the device has the kernel, unless the config says `fused` or `foreach`; a
    checkpoint does not change that. With other optimizers, and with a norm other than the 2-norm in `clip_grad`, the
    host waits in each step.

    Args:
        **kwargs: As in the parent.

    Attributes:
        counts: Two whole numbers on the device: steps left out so far, and those since the last one that was taken.
            Every step makes a new tensor.
        grad_norm: The norm of the last step before it was clipped; None where `clip_grad` does not ask for the 2-norm.
        writes_norm: Whether each step writes it to the log, for which the host waits. `LossLogHook` does so later, and
            turns this off.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _fuse(self.optimizer)
        self.counts = torch.zeros(2, dtype=torch.long)
        self.grad_norm: Tensor | None = None
        self.writes_norm = True
        self._model: nn.Module | None = None
        # Of each parameter, on how many ranks its gradient lies; empty without shards.
        self._copies: dict[nn.Parameter, int] = {}
        clip = self.clip_grad_kwargs or {}
        by_norm = bool(clip) and self.clip_func is nn.utils.clip_grad_norm_
        self._clips_here = by_norm and clip.keys() <= {'max_norm', 'norm_type'} and clip.get('norm_type', 2) == 2
        # mmengine's clipping by a norm reads it.
        self._waits_to_clip = by_norm and not self._clips_here

    @property
    def skipped(self) -> int:
        """Steps left out so far; to read it waits for the device."""
        return int(self.counts[0])

    @property
    def skipped_in_a_row(self) -> int:
        """Those since the last step that was taken; to read it waits for the device."""
        return int(self.counts[1])

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """As in the parent, which calls it around each forward pass; the first one tells which gradients are in shards.

        Raises:
            InputError: The gradients are in shards, and `clip_grad` asks for another norm than the 2-norm.
        """
        if model is not self._model:
            self._model, self._copies = model, copies_of_gradients(model)
            if self._copies and self._waits_to_clip:
                raise InputError(
                    'optim_wrapper.clip_grad of gradients in shards (FSDP) is dict(max_norm=...) without '
                    f'another key, got {self.clip_grad_kwargs}'
                )
        with super().optim_context(model):
            yield

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients where asked for and step, if they are finite."""
        norm = self._norm()
        bad = ~norm.isfinite()
        skipped, in_a_row = self.counts.to(bad.device, non_blocking=True)
        self.counts = torch.stack([skipped + bad, (in_a_row + 1) * bad])
        if self._clips_here:
            self.grad_norm = norm
            # That of a step that is left out says nothing.
            if self.writes_norm and not bad:
                self.message_hub.update_scalar(f'train/{self.grad_name}', norm.item())
        in_kernel = bad.device.type in LISTENING and self._leaves_out_in_kernel()
        if not in_kernel and bad:
            return
        if self.clip_grad_kwargs:
            self._clip_grad()
        if in_kernel:
            self.optimizer.found_inf = bad.float()
        try:
            self.optimizer.step(**kwargs)
        finally:
            if in_kernel:
                del self.optimizer.found_inf

    def load_state_dict(self, state_dict: dict) -> None:
        """As in the parent; whether the optimizer is fused stays as it was."""
        saved = state_dict['param_groups']
        groups = [
            dict(group, **{name: own[name] for name in ('fused', 'foreach') if name in own})
            for group, own in zip(saved, self.optimizer.param_groups)
        ]
        # Groups too many are the parent's to refuse.
        super().load_state_dict(dict(state_dict, param_groups=[*groups, *saved[len(groups) :]]))

    def _leaves_out_in_kernel(self) -> bool:
        # The momentum of a first step that is left out stays unwritten memory in torch's fused SGD.
        return (
            isinstance(self.optimizer, (Adam, AdamW, SGD))
            and not self._waits_to_clip
            and all(group.get('fused') and not group.get('momentum') for group in self.optimizer.param_groups)
        )

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]

    def _norm(self) -> Tensor:
        """The 2-norm of all gradients: finite where every gradient is (and none is beyond 1e19)."""
        parameters = self._parameters()
        zero = torch.zeros((), device=parameters[0].device if parameters else get_device())
        if not self._copies:
            if not parameters:
                return zero
            norm = torch.stack(torch._foreach_norm([p.grad for p in parameters])).norm()
            # The shards of torch's second FSDP know that they are shards.
            return norm.full_tensor() if hasattr(norm, 'full_tensor') else norm
        # Of n copies of a gradient each counts one n-th, so that the sum over all ranks, which all of them get, has it
        # once: of shards with replicas (HYBRID_SHARD), and of what FSDP was told to ignore.
        by_copies: dict[int, list[Tensor]] = {}
        for p in parameters:
            by_copies.setdefault(self._copies.get(p, get_world_size()), []).append(p.grad)
        total = zero
        for copies, gradients in by_copies.items():
            total += torch.stack(torch._foreach_norm(gradients)).square().sum() / copies
        all_reduce(total)
        return total.sqrt()

    def _clip_grad(self) -> None:
        if not self._clips_here:
            super()._clip_grad()
            return
        # As torch.nn.utils.clip_grad_norm_.
        factor = (self.clip_grad_kwargs['max_norm'] / (self.grad_norm + 1e-6)).clamp(max=1)
        gradients = [p.grad for p in self._parameters()]
        if gradients:
            torch._foreach_mul_(gradients, factor)


def has_stepped(wrapper: Any) -> bool:
    """Whether the weights have changed in the batch that is done; True for wrappers that do not count batches."""
    # A dict of wrappers has the method and no counts; models step its wrappers as they like.
    if isinstance(wrapper, OptimWrapperDict):
        return True
    return getattr(wrapper, 'should_update', lambda: True)()


def _fuse(optimizer: Optimizer) -> None:
    """Have torch's Adam and AdamW update by one kernel a group, where the config leaves it open and there is one."""
    groups = optimizer.param_groups
    is_open = all(
        group.get('fused') is None
        and group.get('foreach') is None
        and not group.get('capturable')
        and not group.get('differentiable')
        for group in groups
    )
    devices = {p.device for group in groups for p in group['params']}
    if type(optimizer) in (Adam, AdamW) and is_open and all(_has_fused(type(optimizer), each) for each in devices):
        for group in groups:
            group['fused'] = True


@cache
def _has_fused(kind: type[Optimizer], device: torch.device) -> bool:
    """Whether torch has the kernel: on GPUs from 2.0 on, on CPUs from 2.4 on. It tells by an error alone."""
    if device.type not in LISTENING:
        return False
    trial = torch.zeros(1, device=device, requires_grad=True)
    trial.grad = torch.zeros_like(trial)
    try:
        kind([trial], fused=True).step()
    except RuntimeError:
        return False
    return True
