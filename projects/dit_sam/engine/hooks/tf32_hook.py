"""Whether float32 means float32."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...errors import InputError


@HOOKS.register_module()
class TF32Hook(Hook):
    """Say for a run whether GPUs may round the factors of float32 products to TF32, and put the setting back behind it.

    TF32 has 10 bits behind the point where float32 has 23: a factor is off by up to 2⁻¹¹ = 5e-4 of itself. NVIDIA GPUs
    from Ampere on are up to eight times as fast with it. PyTorch by itself allows it in convolutions alone, so that the
    patches, the neck and the upscaling of a model differ between a GPU and a CPU; here both are set alike. What
    autocast computes in bfloat16, as with ``--amp``, stays as it is.

    Args:
        enabled: Whether TF32 is allowed, in convolutions and in matrix products; None leaves both as they are.
    """

    # Before anything of the run computes.
    priority = 'HIGHEST'

    def __init__(self, enabled: bool | None = False) -> None:
        self.enabled = enabled
        self._before: tuple[str, bool] | None = None

    def before_run(self, runner: Runner) -> None:
        """Set it.

        Raises:
            InputError: The program has set it by the newer interface of torch.
        """
        if self.enabled is None:
            return
        try:
            self._before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        except RuntimeError as error:
            raise InputError(
                'this program has set fp32_precision, which does not go with default_hooks.tf32: set '
                'default_hooks.tf32.enabled=None to leave it as it is'
            ) from error
        self._set('high' if self.enabled else 'highest', self.enabled)

    def after_run(self, runner: Runner) -> None:
        """Put it back."""
        if self._before is not None:
            self._set(*self._before)
            self._before = None

    def _set(self, products: str, convolutions: bool) -> None:
        # torch 2.9 has a second interface, `fp32_precision`, and refuses to read the first one behind it; this one is
        # in every version, and torch.compile reads it.
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
