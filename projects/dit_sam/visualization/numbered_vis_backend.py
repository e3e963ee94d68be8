"""Visualization backend that never replaces a picture."""

from typing import Any

import numpy as np
from mmengine.visualization import LocalVisBackend
from mmengine.visualization.vis_backend import force_init_env
from mmseg.registry import VISBACKENDS

from .files import write_image


@VISBACKENDS.register_module()
class NumberedVisBackend(LocalVisBackend):
    """mmengine's local backend, which keeps the pictures of earlier runs in the same folder.

    A picture is called `{name}_{step}_{number}.png`, with the first free number from 1 on.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Write an RGB picture."""
        write_image(image, self._img_save_dir, f'{name}_{step}')
