"""The optimizer wrapper: steps with NaN are skipped, and the forward pass may run in bfloat16."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import autocast
from mmseg.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..compat import has_bfloat16, to_device
from ..errors import InputError, log_warning
from .strategies import copies_of_gradients

# The devices whose fused kernels read `found_inf`; MPS does not (ATen/native/mps/operations/FusedAdamKernelImpl.mm).
_WITH_FOUND_INF = ('cpu', 'cuda')
NO_BFLOAT16 = 'This CPU has no bfloat16 arithmetic: the {} stays in float32'


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(OptimWrapper):
    """`OptimWrapper` that skips steps with NaN or infinity in the gradients, optionally in mixed precision.

    A step is skipped if the 2-norm of all gradients is not finite; `clip_grad` uses the same norm. All ranks skip the
    same steps, because gradients are averaged first, and with FSDP the norm is that of all shards. `FiniteStepHook`
    reports skipped steps.

    If the optimizer is a fused Adam or AdamW, its kernel skips the step and the host does not wait for the GPU.
    Adam and AdamW are fused where the device has the kernel, unless the config sets `fused` or `foreach`; a checkpoint
    does not change that. With other optimizers, and if `clip_grad` uses another norm, the host waits in each step.

    mmengine's `AmpOptimWrapper` scales the loss and needs an accelerator. bfloat16 has the exponent range of float32,
    needs no scaling and works on CPUs too. Parameters, gradients and optimizer state stay in float32; validation and
    prediction do not change.

    Args:
        dtype: 'bfloat16' runs the forward pass of training under autocast. A CPU without bfloat16 arithmetic would be
            many times slower, so there everything stays in float32 and the log says so.
        **kwargs: As in the parent: `optimizer`, `accumulative_counts`, `clip_grad`.

    Attributes:
        counts: Two integers on the device: steps skipped so far, and those since the last step that was taken. Every
            step makes a new tensor.
        grad_norm: The norm of the last step before clipping; None if `clip_grad` does not use the 2-norm.
        writes_norm: Whether each step writes the norm to the log, for which the host waits. `LossLogHook` does so later
            and turns this off.

    Raises:
        InputError: Another `dtype`; float16 would need a loss scale.
    """

    def __init__(self, dtype: str | torch.dtype | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _fuse(self.optimizer)
        self.dtype = _autocast_dtype(dtype)
        self.counts = torch.zeros(2, dtype=torch.long)
        self.grad_norm: Tensor | None = None
        self.writes_norm = True
        self._model: nn.Module | None = None
        # For each parameter, the number of ranks with its gradient; empty without shards.
        self._copies: dict[nn.Parameter, int] = {}
        clip = self.clip_grad_kwargs or {}
        by_norm = bool(clip) and self.clip_func is nn.utils.clip_grad_norm_
        self._clips_here = by_norm and clip.keys() <= {'max_norm', 'norm_type'} and clip.get('norm_type', 2) == 2
        # mmengine's clipping by a norm reads it.
        self._waits_to_clip = by_norm and not self._clips_here

    @property
    def skipped(self) -> int:
        """Steps skipped so far; reading it waits for the device."""
        return int(self.counts[0])

    @property
    def skipped_in_a_row(self) -> int:
        """Steps skipped since the last one that was taken; reading it waits for the device."""
        return int(self.counts[1])

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of each forward pass. The first one finds out which gradients are in shards.

        Raises:
            InputError: The gradients are in shards, and `clip_grad` uses a norm other than the 2-norm.
        """
        if model is not self._model:
            self._model, self._copies = model, copies_of_gradients(model)
            if self._copies and self._waits_to_clip:
                raise InputError(
                    'optim_wrapper.clip_grad of gradients in shards (FSDP) is dict(max_norm=...) without '
                    f'another key, got {self.clip_grad_kwargs}'
                )
        with super().optim_context(model), autocast(dtype=self.dtype) if self.dtype else nullcontext():
            yield

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients if configured, and step if they are finite."""
        norm = self._norm()
        bad = ~norm.isfinite()
        skipped, in_a_row = to_device(self.counts, bad.device)
        self.counts = torch.stack([skipped + bad, (in_a_row + 1) * bad])
        if self._clips_here:
            self.grad_norm = norm
            # The norm of a skipped step is meaningless.
            if self.writes_norm and not bad:
                self.message_hub.update_scalar(f'train/{self.grad_name}', norm.item())
        in_kernel = bad.device.type in _WITH_FOUND_INF and self._leaves_out_in_kernel()
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
        """Load the optimizer's state, but keep whether it is fused."""
        saved = state_dict['param_groups']
        groups = [
            dict(group, **{name: own[name] for name in ('fused', 'foreach') if name in own})
            for group, own in zip(saved, self.optimizer.param_groups)
        ]
        # The parent refuses surplus groups.
        super().load_state_dict(dict(state_dict, param_groups=[*groups, *saved[len(groups) :]]))

    def _leaves_out_in_kernel(self) -> bool:
        # In torch's fused SGD, the momentum stays uninitialized memory if the first step is skipped.
        return (
            isinstance(self.optimizer, (Adam, AdamW, SGD))
            and not self._waits_to_clip
            and all(group.get('fused') and not group.get('momentum') for group in self.optimizer.param_groups)
        )

    def _gradients(self) -> dict[nn.Parameter, Tensor]:
        parameters = (p for group in self.optimizer.param_groups for p in group['params'])
        return {p: p.grad for p in parameters if p.grad is not None}

    def _norm(self) -> Tensor:
        """The 2-norm of all gradients. It is finite if every gradient is (and none is beyond 1e19)."""
        gradients = self._gradients()
        zero = torch.zeros((), device=next((p.device for p in gradients), get_device()))
        if not self._copies:
            if not gradients:
                return zero
            parts = _by_mesh(gradients.values())
            norms = {mesh: torch.stack(torch._foreach_norm(part)).norm() for mesh, part in parts.items()}
            # With torch's second FSDP, the shards are DTensors, whose norm covers all of them.
            whole = {mesh: norm if mesh is None else norm.full_tensor() for mesh, norm in norms.items()}
            if None in whole and len(whole) > 1:
                # Parts without shards are on all ranks; if their gradients differ, all ranks still get one norm.
                square = whole[None].square() / get_world_size()
                all_reduce(square)
                whole[None] = square.sqrt()
            return torch.stack([*whole.values()]).norm()
        # Each of n copies of a gradient counts 1/n, so that the sum over all ranks has it once.
        by_copies: dict[int, list[Tensor]] = {}
        for p, gradient in gradients.items():
            by_copies.setdefault(self._copies.get(p, get_world_size()), []).append(gradient)
        total = zero
        for copies, part in by_copies.items():
            total += torch.stack(torch._foreach_norm(part)).square().sum() / copies
        all_reduce(total)
        return total.sqrt()

    def _clip_grad(self) -> None:
        if not self._clips_here:
            super()._clip_grad()
            return
        # As torch.nn.utils.clip_grad_norm_.
        factor = (self.clip_grad_kwargs['max_norm'] / (cast(Tensor, self.grad_norm) + 1e-6)).clamp(max=1)
        for part in _by_mesh(self._gradients().values()).values():
            torch._foreach_mul_(part, factor)


def _by_mesh(tensors: Iterable[Tensor]) -> dict[Any, list[Any]]:
    """Tensors by the device mesh of their shards, None without one; an operation on many tensors takes those of one."""
    parts: dict[Any, list[Any]] = {}
    for tensor in tensors:
        parts.setdefault(getattr(tensor, 'device_mesh', None), []).append(tensor)
    return parts


def has_stepped(wrapper: Any) -> bool:
    """Whether the last batch changed the weights; True for wrappers that do not count batches."""
    # A dict of wrappers has the method but no counts; models step its wrappers as they like.
    if isinstance(wrapper, OptimWrapperDict):
        return True
    return getattr(wrapper, 'should_update', lambda: True)()


def _autocast_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The type of autocast; None for float32."""
    kind = getattr(torch, dtype.removeprefix('torch.'), None) if isinstance(dtype, str) else dtype
    if dtype is not None and kind is not torch.bfloat16:
        hint = '; float16 needs a loss scale: set optim_wrapper.type=AmpOptimWrapper' if kind is torch.float16 else ''
        raise InputError(f"optim_wrapper.dtype must be 'bfloat16' or None, got {dtype!r}{hint}")
    if kind is not None and not has_bfloat16(get_device()):
        log_warning(NO_BFLOAT16.format('training'))
        return None
    return kind


def _fuse(optimizer: Optimizer) -> None:
    """Make torch's Adam and AdamW fused, one kernel per group, on a CPU or GPU, unless the config decides."""
    groups = optimizer.param_groups
    is_open = all(
        group.get('fused') is None
        and group.get('foreach') is None
        and not group.get('capturable')
        and not group.get('differentiable')
        for group in groups
    )
    devices = {p.device.type for group in groups for p in group['params']}
    # The kernel takes a whole group at once.
    is_open = is_open and all(len(_by_mesh(group['params'])) <= 1 for group in groups)
    kind: Any = type(optimizer)
    if kind in (Adam, AdamW) and is_open and devices <= set(_WITH_FOUND_INF):
        for group in groups:
            group['fused'] = True
