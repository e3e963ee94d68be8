"""The hook that sets whether GPUs may compute float32 products in TF32."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..errors import InputError


@HOOKS.register_module()
class TF32Hook(Hook):
    """Allows or forbids TF32 during a run, and restores the setting afterward.

    TF32 has a mantissa of 10 bits where float32 has 23: a factor is off by up to 2⁻¹¹ = 5e-4 of its value. With it,
    NVIDIA GPUs since Ampere are up to eight times as fast. PyTorch by default allows it in convolutions only, so that
    the patch embedding, the neck and the upscaling of a model differ between a GPU and a CPU; here both get the same
    setting. Autocast to bfloat16, as with `--amp`, is not affected.

    Args:
        enabled: Whether TF32 is allowed, in convolutions and in matrix products; None leaves both as they are.
    """

    # Before anything is computed.
    priority = 'HIGHEST'

    def __init__(self, enabled: bool | None = False) -> None:
        self.enabled = enabled
        self._before: tuple[str, bool] | None = None

    def before_run(self, runner: Runner) -> None:
        """Apply the setting.

        Raises:
            InputError: The program has used torch's newer interface, `fp32_precision`.
        """
        if self.enabled is None:
            return
        try:
            self._before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        except RuntimeError as error:
            raise InputError(
                'this program has set fp32_precision, which conflicts with default_hooks.tf32: set '
                'default_hooks.tf32.enabled=None to leave it as it is'
            ) from error
        self._set('high' if self.enabled else 'highest', self.enabled)

    def after_run(self, runner: Runner) -> None:
        if self._before is not None:
            self._set(*self._before)
            self._before = None

    def _set(self, products: str, convolutions: bool) -> None:
        # torch 2.9 has a second interface, `fp32_precision`, and cannot read the first one after it is used. The first
        # is in every version, and torch.compile reads it.
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
