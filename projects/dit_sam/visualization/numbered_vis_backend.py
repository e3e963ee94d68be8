"""Pictures of a run on disk, none of which replaces another."""

import numpy as np
from mmengine.visualization import LocalVisBackend
from mmengine.visualization.vis_backend import force_init_env
from mmseg.registry import VISBACKENDS

from .files import write_image


@VISBACKENDS.register_module()
class NumberedVisBackend(LocalVisBackend):
    """mmengine's local backend, which also keeps what earlier runs wrote to the same folder.

    A picture is `{name}_{step}_{number}.png`, with the first number from 1 on that is free.
    """

    @force_init_env
    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs) -> None:
        """Write an RGB picture."""
        write_image(image, self._img_save_dir, f'{name}_{step}')
