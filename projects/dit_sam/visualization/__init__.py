"""What the model does, as pictures."""
from .files import file_stem, write_image, write_new
from .overlay import draw_masks

__all__ = ['draw_masks', 'file_stem', 'write_image', 'write_new']
