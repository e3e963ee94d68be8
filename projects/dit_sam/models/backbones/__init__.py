from .dit_vit import DITViT
from .sam_vit import SAMViT

__all__ = ['DITViT', 'SAMViT']
